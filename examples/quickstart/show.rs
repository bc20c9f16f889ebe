//! What the quickstart looks like: sections, columns, a little colour.
//!
//! Colour is for terminals only, and not where `NO_COLOR` is set. Every line fits 100 columns.

use std::env;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

/// Widest line, in columns.
pub const WIDTH: usize = 100;

/// What a piece of text is, which is what decides its colour.
#[derive(Clone, Copy)]
pub enum Style {
    Heading,
    Name,
    Good,
    Warning,
    Bad,
    Aside,
}

/// Where everything is printed.
pub struct Screen {
    colour: bool,
}

impl Screen {
    /// The standard output, in colour if somebody is looking.
    pub fn new() -> Self {
        let unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { colour: !unwanted && io::stdout().is_terminal() }
    }

    /// One line. A reader who has gone away, as in `| head`, is no reason to stop.
    pub fn line(&self, text: impl Display) {
        let _ = writeln!(io::stdout().lock(), "{text}");
    }

    /// An empty line.
    pub fn gap(&self) {
        self.line("");
    }

    /// What this program is, above everything else.
    pub fn title(&self, name: &str, about: &str) {
        self.line(format_args!("{}  {about}", self.paint(Style::Heading, name)));
        self.line(self.paint(Style::Aside, &"─".repeat(WIDTH)));
    }

    /// The head of one part.
    pub fn section(&self, name: &str, about: &str) {
        self.gap();
        if about.is_empty() {
            return self.line(self.paint(Style::Heading, name));
        }
        self.line(format_args!("{} {}", self.paint(Style::Heading, &fit(name, 10)), self.paint(Style::Aside, about)));
    }

    /// A fact: what it is called, and what it is.
    pub fn fact(&self, name: &str, text: impl Display) {
        self.line(format_args!("  {} {text}", self.paint(Style::Aside, &fit(name, 12))));
    }

    /// Something that was expected, and whether it is so. Returns whether it is.
    pub fn check(&self, holds: bool, text: &str) -> bool {
        let mark = if holds { self.paint(Style::Good, "✓") } else { self.paint(Style::Bad, "✗") };
        self.line(format_args!("  {mark} {text}"));
        holds
    }

    /// `text` in the colour of `style`, or as it is.
    pub fn paint(&self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Heading => "1",
            Style::Name => "36",
            Style::Good => "32",
            Style::Warning => "33",
            Style::Bad => "1;31",
            Style::Aside => "2",
        };
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// `text` in exactly `columns` columns: filled up with spaces, or cut with an ellipsis.
pub fn fit(text: &str, columns: usize) -> String {
    let cut = cut(text, columns);
    let missing = columns.saturating_sub(cut.chars().count());
    cut + &" ".repeat(missing)
}

/// `text` in at most `columns` columns, one to a character.
pub fn cut(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    text.chars().take(columns.saturating_sub(1)).chain(['…']).collect()
}
