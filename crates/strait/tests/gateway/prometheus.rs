//! A strict reader of Prometheus' text format: what is not exactly right fails.

use std::collections::{BTreeMap, BTreeSet};

/// A series: its name and labels.
pub(crate) type Series = (String, BTreeMap<String, String>);

/// All samples of a scrape.
pub(crate) struct Samples(BTreeMap<Series, f64>);

impl Samples {
    /// The sum of all series of that name that have these labels: a whole number.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is checked to be whole and small")]
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let has = |of: &BTreeMap<String, String>| {
            labels.iter().all(|(name, value)| of.get(*name).is_some_and(|of| of == value))
        };
        let all = self.0.iter().filter(|((of, with), _)| of == name && has(with));
        let sum: f64 = all.map(|(_, value)| value).sum();
        assert!(sum.fract().abs() < f64::EPSILON && (0.0..1e15).contains(&sum), "{name}: {sum}");
        sum as u64
    }

    /// How many series there are of that name.
    pub(crate) fn count(&self, name: &str) -> usize {
        self.0.keys().filter(|(of, _)| of == name).count()
    }

    /// The labels of the only series of that name that have these.
    pub(crate) fn labels(&self, name: &str, labels: &[(&str, &str)]) -> BTreeMap<String, String> {
        let has = |of: &BTreeMap<String, String>| {
            labels.iter().all(|(name, value)| of.get(*name).is_some_and(|of| of == value))
        };
        let found: Vec<_> = self.0.keys().filter(|(of, with)| of == name && has(with)).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        found[0].1.clone()
    }
}

/// Reads a scrape.
pub(crate) fn parse(text: &str) -> Samples {
    assert!(text.ends_with('\n'), "the last line ends");
    let (mut types, mut samples, mut ended) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
    let mut family = String::new();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (what, name, rest) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            assert!(what == "HELP" || what == "TYPE", "{line}");
            if name != family {
                assert!(ended.insert(name.to_owned()), "{name} comes in two parts");
                name.clone_into(&mut family);
            }
            if what == "TYPE" {
                assert!(["counter", "gauge", "histogram"].contains(&rest), "{line}");
                assert_eq!(types.insert(name.to_owned(), rest.to_owned()), None, "{line}");
            }
            continue;
        }
        let (series, value) = sample(line);
        let kind = types.get(&family).unwrap_or_else(|| panic!("no type before {line}"));
        let name = if kind == "histogram" {
            let of = ["_bucket", "_sum", "_count"].iter().find_map(|end| series.0.strip_suffix(end));
            of.unwrap_or_else(|| panic!("{line}"))
        } else {
            &series.0
        };
        assert_eq!(name, family, "{line}");
        assert_eq!(kind == "counter", family.ends_with("_total"), "{line}");
        assert!(kind == "gauge" || value >= 0.0, "{line}");
        let shown = line.to_owned();
        assert_eq!(samples.insert(series, value), None, "twice: {shown}");
    }
    let samples = Samples(samples);
    for (name, _) in types.iter().filter(|(_, kind)| *kind == "histogram") {
        histogram(&samples, name);
    }
    samples
}

/// Buckets grow, and the last one is the count.
fn histogram(samples: &Samples, name: &str) {
    let mut by_labels = BTreeMap::<_, Vec<(f64, f64)>>::new();
    for ((_, labels), value) in samples.0.iter().filter(|((of, _), _)| *of == format!("{name}_bucket")) {
        let mut labels = labels.clone();
        let bound = labels.remove("le").unwrap();
        let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() };
        by_labels.entry(labels).or_default().push((bound, *value));
    }
    assert_eq!(samples.count(&format!("{name}_count")), by_labels.len());
    for (labels, mut buckets) in by_labels {
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert!(
            buckets.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1),
            "{name}{labels:?} {buckets:?}"
        );
        let last = buckets.last().unwrap();
        let of = |end: &str| samples.0[&(format!("{name}{end}"), labels.clone())];
        assert_eq!((last.0, last.1), (f64::INFINITY, of("_count")), "{name}{labels:?}");
        assert!(of("_sum") >= 0.0 && (of("_count") > 0.0 || of("_sum") == 0.0), "{name}{labels:?}");
    }
}

fn is_name(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn sample(line: &str) -> (Series, f64) {
    let end = line.find(['{', ' ']).unwrap_or_else(|| panic!("{line}"));
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name), "{line}");
    let mut labels = BTreeMap::new();
    if let Some(mut inner) = rest.strip_prefix('{') {
        loop {
            let (label, after) = inner.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
            assert!(is_name(label), "{line}");
            let (value, after) = quoted(after, line);
            assert_eq!(labels.insert(label.to_owned(), value), None, "{line}");
            if let Some(next) = after.strip_prefix(',') {
                inner = next;
            } else {
                rest = after.strip_prefix('}').unwrap_or_else(|| panic!("{line}"));
                break;
            }
        }
    }
    let value = rest.strip_prefix(' ').unwrap_or_else(|| panic!("{line}"));
    assert!(!value.is_empty() && !value.contains(' '), "{line}");
    ((name.to_owned(), labels), value.parse().unwrap_or_else(|_| panic!("{line}")))
}

fn quoted<'a>(text: &'a str, line: &str) -> (String, &'a str) {
    let (mut value, mut chars) = (String::new(), text.char_indices());
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return (value, &text[at + 1..]),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, escaped @ ('"' | '\\'))) => value.push(escaped),
                _ => panic!("{line}"),
            },
            _ => value.push(char),
        }
    }
    panic!("{line}")
}
