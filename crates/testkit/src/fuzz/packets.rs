//! Frames of any bytes through the hooks, one after the other, while policy changes and time goes by.

use std::sync::OnceLock;

use strait_packet::{
    abi::{Addr, Endpoint, Hook},
    hooks::Verdict,
    host::{
        MemoryMaps,
        vectors::{self, Content, POD_MAC, Step},
    },
};

use crate::draw::Draw;

const IFINDEX: u32 = 3;
/// Frames of one input.
const MOST_FRAMES: usize = 24;
/// Bytes of a frame that is drawn whole; headers end long before.
const LONGEST: usize = 200;

/// Frames and map contents of the vectors, to start from.
struct Sample {
    frames: Vec<Vec<u8>>,
    contents: Vec<Content>,
}

fn sample() -> &'static Sample {
    static SAMPLE: OnceLock<Sample> = OnceLock::new();
    SAMPLE.get_or_init(|| {
        let mut sample = Sample { frames: Vec::new(), contents: Vec::new() };
        for step in vectors::all().into_iter().flat_map(|vector| vector.steps) {
            match step {
                Step::Load(content) => sample.contents.push(content),
                Step::Send { frame, .. } => sample.frames.push(frame),
            }
        }
        sample
    })
}

/// Bytes choose map contents, hooks and frames.
pub(super) fn run(bytes: &[u8]) {
    let sample = sample();
    let mut draw = Draw::of_bytes(bytes);
    let mut maps = MemoryMaps { now_ns: 1_000_000_000_000, ..MemoryMaps::default() };
    let content = draw.pick(&sample.contents);
    maps.load(content, IFINDEX);
    let closed = draw.chance(25);
    if closed {
        close(&mut maps);
    }
    let mut last = Vec::new();
    for _ in 0..MOST_FRAMES {
        if draw.is_spent() {
            break;
        }
        match draw.below(16) {
            0 if !closed => maps.load(draw.pick(&sample.contents), IFINDEX),
            1 => maps.now_ns += 1 << draw.below(50),
            2 => maps.config.iter_mut().for_each(|config| config.revision += 1),
            _ => {}
        }
        let hook =
            *draw.pick(&[Hook::FromPod, Hook::FromPod, Hook::ToPod, Hook::ToPod, Hook::FromUplink, Hook::ToUplink]);
        last = frame(&mut draw, sample, last);
        let endpoint = maps.endpoints.get(&IFINDEX).copied().unwrap_or_default();
        let remembered = maps.conntrack.len();
        let verdict = maps.run(hook, IFINDEX, &last);
        match verdict {
            Verdict::Pass => {
                check(hook, &last, &endpoint, &maps);
                assert!(!closed || at_uplink(hook) || of_the_link(&last), "closed: {hook:?} {last:02x?}");
            }
            Verdict::Deliver { ifindex } => {
                check(hook, &last, &endpoint, &maps);
                let (_, destination) = addresses(&last).unwrap_or_default();
                assert!(ifindex == IFINDEX && endpoint.owns(destination), "not to its pod: {hook:?} {last:02x?}");
                assert!(maps.conntrack.len() == remembered, "an opening goes past the pod: {hook:?} {last:02x?}");
            }
            Verdict::Drop(_) => {
                // What a pod may send and the node does not take is dropped where the pod's connection is known already.
                let of_node = hook == Hook::FromPod && maps.config.is_some_and(|config| config.judges_host());
                assert!(of_node || maps.conntrack.len() <= remembered, "a dropped frame opens: {hook:?} {last:02x?}");
            }
        }
        assert!(!closed || maps.conntrack.is_empty(), "closed: {hook:?} {last:02x?}");
    }
}

fn close(maps: &mut MemoryMaps) {
    maps.policy.values_mut().for_each(|value| value.port_set = 0);
}

/// One of the vectors, or the last one again, with bytes changed; or any bytes.
fn frame(draw: &mut Draw, sample: &Sample, last: Vec<u8>) -> Vec<u8> {
    let mut frame = match draw.below(8) {
        0 => (0..draw.below(LONGEST)).map(|_| byte(draw)).collect(),
        1 | 2 => last,
        _ => draw.pick(&sample.frames).clone(),
    };
    for _ in 0..draw.weighted(&[(4, 0), (4, 1), (2, 2), (2, 4)]) {
        let at = draw.below(frame.len());
        let new = byte(draw);
        match draw.below(8) {
            0 => frame.truncate(at),
            1 => frame.insert(at, new),
            _ => frame.iter_mut().skip(at).take(1).for_each(|byte| *byte = new),
        }
    }
    frame
}

fn byte(draw: &mut Draw) -> u8 {
    u8::try_from(draw.below(256)).unwrap_or(0)
}

/// What a frame that passes must be, read from its bytes alone.
fn check(hook: Hook, frame: &[u8], endpoint: &Endpoint, maps: &MemoryMaps) {
    let Some((source, destination)) = addresses(frame) else {
        assert!(of_the_link(frame) || at_uplink(hook), "{hook:?}: neither IP nor ARP: {frame:02x?}");
        return;
    };
    match hook {
        Hook::FromPod => {
            assert_eq!(frame[6..12], POD_MAC, "{frame:02x?}");
            let link = of_the_link(frame) && (source.is_link_local_v6() || source.is_unspecified());
            assert!(endpoint.owns(source) || link, "not its source: {frame:02x?}");
        }
        Hook::ToPod => assert!(endpoint.owns(destination) || of_the_link(frame), "not its own: {frame:02x?}"),
        Hook::FromUplink => assert!(!endpoint.owns(source), "a pod's source from afar: {frame:02x?}"),
        Hook::ToUplink => {}
    }
    // Where host policies select the node, it has connections as well.
    let of_node = maps.config.is_some_and(|config| config.judges_host());
    for key in maps.conntrack.keys() {
        assert!(endpoint.owns(key.local) || of_node || hook == Hook::FromUplink, "{key:?} after {hook:?} {frame:02x?}");
    }
}

fn at_uplink(hook: Hook) -> bool {
    matches!(hook, Hook::FromUplink | Hook::ToUplink)
}

/// Whether the frame is ARP, or of IPv6, in which neighbour discovery is.
fn of_the_link(frame: &[u8]) -> bool {
    matches!(frame.get(12..14), Some([0x08, 0x06] | [0x86, 0xdd]))
}

/// Source and destination, where the frame says that it is IP and is long enough.
fn addresses(frame: &[u8]) -> Option<(Addr, Addr)> {
    let v4 = |at: usize| Some(Addr::from_v4_word(u32::from_ne_bytes(frame.get(at..at + 4)?.try_into().ok()?)));
    let v6 = |at: usize| Some(Addr::from_bytes(frame.get(at..at + 16)?.try_into().ok()?));
    match frame.get(12..14)? {
        [0x08, 0x00] => Some((v4(26)?, v4(30)?)),
        [0x86, 0xdd] => Some((v6(22)?, v6(38)?)),
        _ => None,
    }
}
