//! Text in columns.

/// Columns as wide as their widest cell, under a header and a line.
pub(crate) fn render(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| visible(cell));
        cells.chain([header[column].len()]).max().unwrap_or_default()
    };
    let widths: Vec<_> = (0..header.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<_> =
            cells.zip(&widths).map(|(cell, width)| format!("{cell}{}", " ".repeat(width - visible(cell)))).collect();
        padded.join("  ").trim_end().to_owned() + "\n"
    };
    let mut text = line(&mut header.iter().copied());
    text += &(widths.iter().map(|width| "─".repeat(*width)).collect::<Vec<_>>().join("──") + "\n");
    for row in rows {
        text += &line(&mut row.iter().map(String::as_str));
    }
    text
}

/// Characters that a terminal shows: all but colour sequences.
fn visible(cell: &str) -> usize {
    let mut coloured = false;
    let shown = cell.chars().filter(|letter| {
        let hidden = coloured || *letter == '\u{1b}';
        coloured = hidden && *letter != 'm';
        !hidden
    });
    shown.count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_whatever_the_colours() {
        let rows =
            [vec!["a".to_owned(), "\u{1b}[32myes\u{1b}[0m".to_owned()], vec!["longer".to_owned(), "é".to_owned()]];
        assert_eq!(
            render(&["from", "ok"], &rows),
            "from    ok\n───────────\na       \u{1b}[32myes\u{1b}[0m\nlonger  é\n"
        );
    }
}
