//! What the other side cannot make an endpoint do.

use super::*;
use crate::Limits;

/// After how many pieces, and why.
type End = Option<(u32, String)>;

/// Gives `piece` again and again until the connection ends.
fn flood(mut connection: Connection, most: u32, piece: impl Fn(u32) -> Vec<u8>) -> End {
    for index in 0..most {
        let found = answer(&mut connection, &piece(index));
        if let Some((_, code)) = found.split_once("over: ") {
            return Some((index, code.split(';').next().unwrap_or_default().to_owned()));
        }
        // What is answered is forgotten, as a server does.
        for id in connection.streams.iter().map(|(key, _)| key).collect::<Vec<_>>() {
            if !connection.receives(id) && !connection.sends(id) {
                connection.forget(id);
            }
        }
    }
    None
}

const CALM: &str = "ENHANCE_YOUR_CALM";

fn id(index: u32) -> u32 {
    index * 2 + 1
}

#[test]
fn floods() {
    let config = Config { resets: 20, provoked: 20, asks: 20, idle_frames: 20, ..Config::default() };
    let made = || server(config);
    let reset = |id: u32| frame(RST_STREAM, 0, id, &8_u32.to_be_bytes());
    let update = |id: u32, by: u32| frame(WINDOW_UPDATE, 0, id, &by.to_be_bytes());
    let open = |connection: &mut Connection| answer(connection, &post(1));
    let opened = || {
        let mut connection = made();
        open(&mut connection);
        connection
    };
    let cases: [(&str, End, u32); 11] = [
        ("rapid reset", flood(made(), 500, |index| [get(id(index)), reset(id(index))].concat()), 20),
        (
            "resets that are provoked by a window",
            flood(made(), 500, |index| [get(id(index)), update(id(index), 0)].concat()),
            20,
        ),
        (
            "resets that are provoked by data behind the end",
            flood(made(), 500, |index| [get(id(index)), frame(DATA, 0, id(index), b"a")].concat()),
            20,
        ),
        (
            "resets that are provoked by what is malformed",
            flood(made(), 500, |index| frame(HEADERS, END_HEADERS | END_STREAM, id(index), &block(&[("a", "b")]))),
            20,
        ),
        (
            "resets that are provoked by a priority of another length",
            flood(made(), 500, |index| [get(id(index)), frame(PRIORITY, 0, id(index), &[0; 4])].concat()),
            20,
        ),
        ("settings", flood(made(), 500, |_| settings(&[])), 19),
        ("pings", flood(made(), 500, |_| frame(PING, 0, 0, &[0; 8])), 19),
        ("empty data", flood(opened(), 500, |_| frame(DATA, 0, 1, &[])), 20),
        ("padding alone", flood(opened(), 500, |_| frame(DATA, PADDED, 1, &[3, 0, 0, 0])), 20),
        ("priorities", flood(made(), 500, |_| frame(PRIORITY, 0, 7, &[0; 5])), 20),
        ("windows opened a little", flood(opened(), 500, |_| update(1, 1)), 20),
    ];
    for (what, found, after) in cases {
        assert_eq!(found, Some((after, CALM.to_owned())), "{what}");
    }
    assert_eq!(flood(made(), 500, |_| frame(0x16, 0, 0, &[])), Some((20, CALM.into())), "unknown frames");
    // In another interval everything is counted anew.
    let mut connection = made();
    for interval in 0..100 {
        connection.set_interval(interval);
        for _ in 0..10 {
            assert_eq!(answer(&mut connection, &frame(PING, 0, 0, &[0; 8])), "; PING ack [0, 0, 0, 0, 0, 0, 0, 0]");
        }
    }
    // Resets among many requests that are answered are nobody's flood.
    let answered = |index: u32| {
        let ids = [id(index * 3), id(index * 3 + 1), id(index * 3 + 2)];
        [get(ids[0]), reset(ids[0]), get(ids[1]), get(ids[2])].concat()
    };
    let mut connection = server(Config { streams: 1000, ..config });
    for index in 0..100 {
        let found = answer(&mut connection, &answered(index));
        assert!(!found.contains("over"), "{found}");
    }
}

/// Data frames make up for others: a call that goes on for ever may say as much as it likes.
#[test]
fn busy_streams() {
    let mut connection = server(Config { idle_frames: 20, ..Config::default() });
    answer(&mut connection, &post(1));
    let both = [frame(DATA, 0, 1, b"abc"), frame(WINDOW_UPDATE, 0, 1, &3_u32.to_be_bytes())].concat();
    for _ in 0..1000 {
        assert_eq!(answer(&mut connection, &both), "data 1 3");
    }
}

#[test]
fn concurrent_streams() {
    let mut connection = server(Config { streams: 2, provoked: 1000, ..Config::default() });
    let all: Vec<u8> = (0..3).flat_map(|index| get(id(index))).collect();
    let expected = "request 1 GET / end, request 3 GET / end; RST_STREAM 5 REFUSED_STREAM";
    assert_eq!(answer(&mut connection, &all), expected);
    // Streams that were reset hold memory until their exchange has noticed: they count as well, up to twice as many.
    let reset = |id: u32| frame(RST_STREAM, 0, id, &8_u32.to_be_bytes());
    let more: Vec<u8> = (3..20).flat_map(|index| [reset(id(index) - 2), get(id(index))].concat()).collect();
    answer(&mut connection, &[reset(1), reset(3)].concat());
    let found = answer(&mut connection, &more);
    assert_eq!(found.matches("request").count(), 2, "{found}");
    assert!(connection.streams.len() <= 4);
}

#[test]
fn blocks() {
    let small =
        Config { limits: Limits { head: 20 << 10, ..Limits::default() }, continuations: 8, ..Config::default() };
    // Frames without end, empty ones among them.
    let begun = |payload: &[u8]| {
        let mut connection = server(small);
        answer(&mut connection, &frame(HEADERS, END_STREAM, 1, payload));
        connection
    };
    assert_eq!(flood(begun(&[]), 50, |_| frame(CONTINUATION, 0, 1, &[])), Some((7, CALM.into())));
    assert_eq!(flood(begun(&[0x82]), 50, |_| frame(CONTINUATION, 0, 1, &[0x82; 10_000])), Some((2, CALM.into())));
    // Few bytes that stand for many: an entry of 4000 bytes, named again and again.
    let bomb = [&block(&GET)[..], &[0x40, 1, b'a', 0x7f, 0xa1, 0x1e], &vec![b'x'; 4000], &vec![0xbe; 8000]].concat();
    let mut connection = server(small);
    assert_eq!(answer(&mut connection, &frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb)), "refused 1 431");
    let (_, bytes) = connection.request();
    assert!(bytes.capacity() < 64 << 10, "{} bytes", bytes.capacity());
    // The tables are still the same: the entry is there.
    let again = [&block(&GET)[..], &[0xbe]].concat();
    let found = answer(&mut connection, &frame(HEADERS, END_HEADERS | END_STREAM, 3, &again));
    assert_eq!(found, "request 3 GET / end");
    assert_eq!(connection.request().0.head.fields[0].value.len(), 4000);
    // A head of legal size that is larger than a frame.
    let fields: Vec<(String, String)> = (0..6).map(|index| (format!("x-{index}"), "v".repeat(3000))).collect();
    let fields: Vec<(&str, &str)> = GET.into_iter().chain(fields.iter().map(|(a, b)| (&**a, &**b))).collect();
    let whole = block(&fields);
    let (first, second) = whole.split_at(1 << 14);
    let input = [frame(HEADERS, END_STREAM, 5, first), frame(CONTINUATION, END_HEADERS, 5, second)].concat();
    assert_eq!(answer(&mut connection, &input), "request 5 GET / end");
}

/// Nothing is allocated once a connection has seen its kind of traffic.
#[test]
fn room_stays_the_same() {
    let mut connection = server(Config::default());
    let mut rooms = std::collections::BTreeSet::new();
    for index in 0..500 {
        let stream = id(index);
        let input = [post(stream), frame(DATA, END_STREAM, stream, &[0; 1000])].concat();
        answer(&mut connection, &input);
        let key = connection.streams.find(stream).unwrap();
        connection.send_status(key, 200, &[("x-index", index.to_string().as_bytes())], false);
        assert_eq!(connection.send_data(key, &[0; 1000], true), 1000);
        drain(&mut connection);
        connection.forget(key);
        answer(&mut connection, &frame(WINDOW_UPDATE, 0, 0, &1024_u32.to_be_bytes()));
        if index > 100 {
            rooms.insert((connection.out.capacity(), connection.request().1.capacity(), key.index()));
        }
    }
    assert_eq!(rooms.len(), 1, "{rooms:?}");
}
