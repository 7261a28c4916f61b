//! Text for people: colours and aligned columns.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;

/// `--color`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub(crate) enum ColorChoice {
    /// Where standard output is a terminal.
    #[default]
    Auto,
    /// Even into a pipe.
    Always,
    /// Not even on a terminal.
    Never,
}

/// `-o`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// How to write to this user.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ui {
    /// Colours on standard output.
    pub(crate) color: bool,
    color_stderr: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Paint {
    Red,
    Green,
    Yellow,
    Bold,
    Dim,
}

impl Ui {
    pub(crate) fn new(choice: ColorChoice) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let decide = |terminal: bool| match choice {
            ColorChoice::Auto => terminal && !plain,
            ColorChoice::Always => true,
            ColorChoice::Never => false,
        };
        Self { color: decide(io::stdout().is_terminal()), color_stderr: decide(io::stderr().is_terminal()) }
    }

    pub(crate) fn paint(self, paint: Paint, text: &str) -> String {
        if self.color { painted(paint, text) } else { text.to_owned() }
    }

    pub(crate) fn red_stderr(self, text: &str) -> String {
        if self.color_stderr { painted(Paint::Red, text) } else { text.to_owned() }
    }
}

fn painted(paint: Paint, text: &str) -> String {
    let code = match paint {
        Paint::Red => "31",
        Paint::Green => "32",
        Paint::Yellow => "33",
        Paint::Bold => "1",
        Paint::Dim => "2",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// Aligned columns under a header.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<const N: usize>(header: [&str; N]) -> Self {
        Self { rows: vec![header.map(str::to_owned).to_vec()] }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.row_of(cells.into());
    }

    /// Adds columns whose number is not known beforehand.
    pub(crate) fn widen_header(&mut self, cells: impl IntoIterator<Item = String>) {
        if let Some(header) = self.rows.first_mut() {
            header.extend(cells);
        }
    }

    pub(crate) fn row_of(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub(crate) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|column| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| width(cell)).max().unwrap_or(0))
            .collect();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, &wide) in row.iter().zip(&widths) {
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', wide.saturating_sub(width(cell)) + 3));
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Columns on a terminal, not counting colour sequences.
fn width(text: &str) -> usize {
    let mut inside = false;
    text.chars()
        .filter(|&c| {
            inside |= c == '\x1b';
            let visible = !inside;
            inside &= c != 'm';
            visible
        })
        .count()
}

/// One JSON document, for programs and `jq`.
pub(crate) fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    // Standard output flushes at every line by itself.
    let mut out = io::BufWriter::new(io::stdout().lock());
    serde_json::to_writer_pretty(&mut out, value).map_err(io::Error::from)?;
    writeln!(out)?;
    out.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_whatever_the_colour() {
        let mut table = Table::new(["NAME", "STATE"]);
        table.row([painted(Paint::Green, "web"), "ready".to_owned()]);
        table.row(["a-long-name".to_owned(), "✓".to_owned()]);
        let mut out = Vec::new();
        table.print(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap().replace("\x1b[32m", "").replace("\x1b[0m", "");
        assert_eq!(text, "NAME          STATE\nweb           ready\na-long-name   ✓\n");
    }
}
