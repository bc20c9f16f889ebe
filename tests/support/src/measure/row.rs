//! Figures as a table for a README, as JSON, and as a picture.
//!
//! In: [`Row`]s. Out: text.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// What one piece of work costs, each time it is done.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What it is.
    pub name: String,
    /// Nanoseconds, the median of many bursts.
    pub ns: f64,
    /// Instructions outside of the kernel, if they could be counted.
    pub instructions: Option<u64>,
    /// Calls to the allocator on the thread that does it.
    pub allocations: f64,
    /// What it produces.
    pub bytes: usize,
}

/// A Markdown table, in the order given. Ratios are to the row called `limit`.
pub fn table(rows: &[Row], limit: &str) -> String {
    let first = rows.iter().find(|row| row.name == limit).map_or(f64::NAN, |row| row.ns);
    let mut text = String::new();
    let _ = writeln!(text, "| per event | ns | × limit | instructions | allocations | bytes |");
    let _ = writeln!(text, "|---|--:|--:|--:|--:|--:|");
    for row in rows {
        let instructions = row.instructions.map_or_else(|| "–".to_owned(), |count| count.to_string());
        let bytes = if row.bytes == 0 { "–".to_owned() } else { row.bytes.to_string() };
        let (ns, ratio) = (digits(row.ns), digits(row.ns / first));
        let allocations = row.allocations.round();
        let _ = writeln!(text, "| {} | {ns} | {ratio} | {instructions} | {allocations} | {bytes} |", row.name);
    }
    text
}

/// A JSON array of objects with the fields of [`Row`]; `instructions` is `null` where there are none.
pub fn to_json(rows: &[Row]) -> String {
    let rows: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "name": row.name,
                "ns": row.ns,
                "instructions": row.instructions,
                "allocations": row.allocations,
                "bytes": row.bytes,
            })
        })
        .collect();
    format!("{:#}\n", Value::Array(rows))
}

/// What [`to_json`] wrote; `None` if it is something else.
pub fn from_json(text: &str) -> Option<Vec<Row>> {
    let rows: Value = serde_json::from_str(text).ok()?;
    let row = |row: &Value| {
        Some(Row {
            name: row.get("name")?.as_str()?.to_owned(),
            ns: row.get("ns")?.as_f64()?,
            instructions: row.get("instructions")?.as_u64(),
            allocations: row.get("allocations")?.as_f64()?,
            bytes: usize::try_from(row.get("bytes")?.as_u64()?).ok()?,
        })
    };
    rows.as_array()?.iter().map(row).collect()
}

/// Bars on a logarithmic scale, from 1 ns on, with the figures beside them. Rows whose name begins with `ours` stand out.
pub fn svg(rows: &[Row], title: &str, ours: &str) -> String {
    let (left, width_max, line) = (310.0, 480.0, 26.0);
    let decades = rows.iter().map(|row| row.ns.max(10.0).log10()).fold(1.0, f64::max).ceil();
    let height = line * (rows.len() as f64 + 3.0);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"12\" y=\"20\" font-size=\"15\">{}</text>\n",
        left + width_max + 110.0,
        escaped(title),
    );
    for decade in 0..=decades as u32 {
        let x = left + width_max * f64::from(decade) / decades;
        let _ = writeln!(
            text,
            "<line x1=\"{x}\" y1=\"30\" x2=\"{x}\" y2=\"{}\" stroke=\"#ddd\"/>\n<text x=\"{x}\" y=\"{}\" fill=\"#777\" \
             text-anchor=\"middle\">{} ns</text>",
            height - 32.0,
            height - 16.0,
            10_u64.pow(decade),
        );
    }
    for (at, row) in rows.iter().enumerate() {
        let top = line * (at as f64 + 1.3);
        let width = (width_max * row.ns.max(1.0).log10() / decades).max(1.0);
        let colour = if row.name.starts_with(ours) { "#c2410c" } else { "#94a3b8" };
        let _ = writeln!(
            text,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n<rect x=\"{left}\" y=\"{top}\" width=\"{width}\" \
             height=\"18\" fill=\"{colour}\"/>\n<text x=\"{}\" y=\"{}\">{}</text>",
            left - 8.0,
            top + 14.0,
            escaped(&row.name),
            left + width + 6.0,
            top + 14.0,
            digits(row.ns),
        );
    }
    text.push_str("</svg>\n");
    text
}

/// Two digits at least, and no more than tell something.
fn digits(number: f64) -> String {
    if number < 100.0 { format!("{number:.1}") } else { format!("{number:.0}") }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails should stop")]

    use super::*;

    fn rows() -> Vec<Row> {
        let row = |name: &str, ns, instructions, allocations, bytes| Row {
            name: name.to_owned(),
            ns,
            instructions,
            allocations,
            bytes,
        };
        vec![row("copy limit", 7.3, Some(87), 0.0, 300), row("another, <slow>", 1312.4, None, 9.0, 0)]
    }

    #[test]
    fn a_table_has_ratios_and_says_what_it_does_not_know() {
        let table = table(&rows(), "copy limit");
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines.len(), 4);
        assert_eq!(lines.get(2), Some(&"| copy limit | 7.3 | 1.0 | 87 | 0 | 300 |"));
        assert_eq!(lines.get(3), Some(&"| another, <slow> | 1312 | 180 | – | 9 | – |"));
    }

    #[test]
    fn json_can_be_read_back() {
        assert_eq!(from_json(&to_json(&rows())).unwrap(), rows());
        assert_eq!(from_json("[{\"name\":1}]"), None);
        assert_eq!(from_json("nonsense"), None);
    }

    #[test]
    fn a_picture_is_well_formed_as_far_as_names_go() {
        let picture = svg(&rows(), "one & two", "copy");
        assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
        assert!(picture.contains("another, &lt;slow>") && picture.contains("one &amp; two"));
        assert_eq!(picture.matches("<rect").count(), 1 + rows().len());
    }
}
