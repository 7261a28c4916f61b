//! What denied packets hear, and how much of it.

use super::{IFINDEX, maps};
use crate::abi::{Config, DenyResponse, DropReason, Hook};
use crate::hooks::Verdict;
use crate::host::vectors::{self, Heard};
use crate::host::{Bytes, MemoryMaps, tcp_flags};
use crate::respond::{MARK, RESPONSES_PER_WINDOW, WINDOW_NS};

fn answering(content: &vectors::Content, mode: DenyResponse) -> MemoryMaps {
    let mut maps = maps(content);
    maps.config = maps.config.map(|config| Config { deny_response: mode as u32, ..config });
    maps
}

#[test]
fn denials_hear_what_they_should() {
    let mut wrong = Vec::new();
    for denial in vectors::denials() {
        let mut maps = answering(&denial.content, denial.mode);
        maps.run(denial.hook, IFINDEX, &denial.frame);
        if let Err(text) = vectors::check(&denial.frame, &maps.response, denial.heard) {
            wrong.push(format!("{}: {text}", denial.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn denied(hook: Hook, heard: Heard) -> vectors::Denial {
    let mut denials = vectors::denials().into_iter();
    denials.rfind(|denial| denial.hook == hook && denial.heard == heard).expect("one")
}

#[test]
fn answers_are_bounded() {
    let denial = denied(Hook::FromPod, Heard::Prohibited);
    let mut maps = answering(&denial.content, denial.mode);
    let flood = |maps: &mut MemoryMaps| {
        let answered = (0..RESPONSES_PER_WINDOW * 3).filter(|_| {
            assert!(matches!(maps.run(denial.hook, IFINDEX, &denial.frame), Verdict::Drop(_)));
            !maps.response.is_empty()
        });
        answered.count()
    };
    assert_eq!(flood(&mut maps), RESPONSES_PER_WINDOW as usize);
    assert_eq!(flood(&mut maps), 0);
    maps.now_ns += WINDOW_NS;
    assert_eq!(flood(&mut maps), RESPONSES_PER_WINDOW as usize);
}

/// What `to_pod` answers comes by `from_pod`, and passes although the pod may not speak. Nothing else gets the mark's benefit.
#[test]
fn an_answer_passes_for_its_mark() {
    for heard in [Heard::Reset(18), Heard::Prohibited] {
        let denial = denied(Hook::ToPod, heard);
        let mut maps = answering(&denial.content, denial.mode);
        maps.run(denial.hook, IFINDEX, &denial.frame);
        let answer = maps.response.clone();
        let mut run = |bytes: &[u8], mark| maps.run_frame(Hook::FromPod, &Bytes { mark, ..Bytes::new(IFINDEX, bytes) });
        assert_eq!(run(&answer, MARK), Verdict::Pass);
        assert!(matches!(run(&answer, 0), Verdict::Drop(_)));
        let forged = super::tx().src([10, 0, 2, 8].into()).tcp(1, 80, tcp_flags::RST);
        assert_eq!(run(&forged, MARK), Verdict::Drop(DropReason::InvalidSourceIp));
    }
}
