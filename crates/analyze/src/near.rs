//! Words that look like others.

/// The one of `words` that `word` was probably meant to be: the same but for capitals, or one letter added, dropped, changed or
/// swapped with its neighbour (two in words of eight letters or more). Numbers that differ are meant to.
pub(crate) fn nearest<'a>(word: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let close = |other: &str| {
        if other == word {
            return None;
        }
        if other.eq_ignore_ascii_case(word) {
            return Some(0);
        }
        let letters = |text: &str| text.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
        let limit = if word.len().min(other.len()) >= 8 { 2 } else { 1 };
        let short = word.len().min(other.len()) < 3;
        let numbered = letters(word) == letters(other);
        (!short && !numbered && word.len().abs_diff(other.len()) <= limit)
            .then(|| distance(word, other))
            .filter(|distance| *distance <= limit)
    };
    words.into_iter().filter_map(|other| Some((close(other)?, other))).min().map(|(_, other)| other)
}

/// How many letters to add, drop, change or swap with their neighbour (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(128).collect(), b.chars().take(128).collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, other) in b.iter().enumerate() {
            let get = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(usize::MAX / 2);
            let changed = get(&last, j) + usize::from(letter != other);
            let mut best = changed.min(get(&last, j + 1) + 1).min(get(&row, j) + 1);
            if i > 0 && j > 0 && a.get(i - 1) == Some(other) && b.get(j - 1) == Some(letter) {
                best = best.min(get(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_were_meant() {
        let cases: [(&str, &[&str], Option<&str>); 10] = [
            ("Web", &["web", "wed"], Some("web")),
            ("frontned", &["frontend", "front"], Some("frontend")),
            ("datbase", &["database"], Some("database")),
            ("payment", &["payments"], Some("payments")),
            ("web", &["web"], None),
            ("web", &["db", "cart"], None),
            ("app-1", &["app-2", "app-3"], None),
            ("v1", &["v2"], None),
            ("client", &["client2"], None),
            ("paymnets-db", &["payments", "payments-db"], Some("payments-db")),
        ];
        for (word, words, expected) in cases {
            assert_eq!(nearest(word, words.iter().copied()), expected, "{word}");
        }
    }
}
