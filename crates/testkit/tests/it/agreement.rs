//! The judges agree: reference, `model`, the plans it compiles, and packets at the tables that `datapath` makes of them.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use strait_testkit::{
    Case, case, mixed_case,
    packets::Host,
    trial::{Failure, Figures, try_case},
};

/// Cases on trial unless `STRAIT_CASES` says otherwise.
const CASES: u64 = 10_000;
/// Questions about each of them: a fair draw. Over all cases that is enough to meet what few questions tell; asking everything takes hours.
const QUESTIONS: usize = 100;
/// A failure is made small before it is shown, which is slow; more than these tell little.
const MOST_FAILURES: usize = 3;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}: a number is wanted")))
}

#[test]
fn random_network_policies() {
    let Some(figures) = trial(case) else { return };
    assert!(figures.allowed_by_rules * 20 > figures.connections, "{figures:?}");
    assert!(figures.denied * 5 > figures.connections, "{figures:?}");
}

#[test]
fn random_mixed_policies() {
    let Some(figures) = trial(mixed_case) else { return };
    assert!(figures.allowed_by_rules * 30 > figures.connections, "{figures:?}");
    assert!(figures.denied * 5 > figures.connections, "{figures:?}");
    for (what, count) in [
        ("by deny rules", figures.denied_by_rules),
        ("closed", figures.closed),
        ("audited", figures.audited),
        ("of hosts", figures.of_hosts),
    ] {
        assert!(count * 2000 > figures.connections, "{what}: {figures:?}");
    }
}

/// Cases from seed `STRAIT_SEED_BASE` (0), `STRAIT_CASES` (10,000) of them, `STRAIT_QUESTIONS` (100) about each. `STRAIT_SEED=n` asks everything
/// about one case, and has no figures. A trial in which nothing is decided by policies would show nothing: look at the figures.
fn trial(case: fn(u64) -> Case) -> Option<Figures> {
    if let Some(seed) = number("STRAIT_SEED") {
        match try_case(&case(seed), None, &mut Host::new().unwrap()) {
            Ok(figures) => println!("seed {seed}: {figures:?}\n{}", case(seed).yaml()),
            Err(failure) => panic!("{failure}"),
        }
        return None;
    }
    let first = number("STRAIT_SEED_BASE").unwrap_or(0);
    let count = number("STRAIT_CASES").unwrap_or(CASES);
    let questions = number("STRAIT_QUESTIONS").map_or(QUESTIONS, |count| usize::try_from(count).unwrap());
    let next = AtomicU64::new(0);
    let failures: Mutex<Vec<Box<Failure>>> = Mutex::default();
    let figures: Mutex<Figures> = Mutex::default();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, Into::into) {
            scope.spawn(|| {
                let mut mine = Figures::default();
                let mut host = Host::new().unwrap();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count || failures.lock().unwrap().len() >= MOST_FAILURES {
                        break;
                    }
                    match try_case(&case(first + number), Some(questions), &mut host) {
                        Ok(of_case) => mine = mine.plus(of_case),
                        Err(failure) => failures.lock().unwrap().push(failure),
                    }
                }
                let mut all = figures.lock().unwrap();
                *all = all.plus(mine);
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    let figures = figures.into_inner().unwrap();
    println!("{figures:?}");
    assert_eq!(figures.cases, usize::try_from(count).unwrap());
    Some(figures)
}
