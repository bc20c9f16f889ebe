//! The file of budgets: one line for each case.
//!
//! In: counts. Out: a table, and whether all of them are within their budgets; or the file, written anew.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

/// From the repository's root.
pub const FILE: &str = "benches/instructions/budgets.toml";

/// How far a new budget is over the count. Another patch release of the compiler should fit.
const MARGIN: f64 = 1.03;

/// Budgets further over the count than this no longer hold anything.
const SLACK: f64 = 0.05;

const HEAD: &str = "\
# Most instructions each operation may take, counted by `cargo bench --bench instructions`, which .ci/run runs.
# Written by the same command with `-- --update`, 3 % over the count. A change here says in its commit why.

";

/// Prints counts beside budgets. A case without a budget, or a budget without a case, is wrong as well.
pub fn check(counts: &[(&str, u64)]) -> bool {
    let budgets = read();
    let mut is_good = true;
    println!("| operation | instructions | budget | |");
    println!("|---|--:|--:|---|");
    for &(name, count) in counts {
        let budget = budgets.iter().find(|(other, _)| other == name).map(|(_, budget)| *budget);
        let verdict = match budget {
            None => "NO BUDGET".to_owned(),
            Some(budget) if count > budget => {
                format!("OVER by {:.1} %", 100.0 * (count as f64 / budget as f64 - 1.0))
            }
            Some(budget) => {
                let left = 1.0 - count as f64 / budget as f64;
                format!("{:.1} % left{}", 100.0 * left, if left > SLACK { ": lower it" } else { "" })
            }
        };
        is_good &= budget.is_some_and(|budget| count <= budget);
        println!("| {name} | {count} | {} | {verdict} |", budget.map_or_else(String::new, |budget| budget.to_string()));
    }
    for (name, _) in budgets.iter().filter(|(name, _)| counts.iter().all(|(other, _)| other != name)) {
        println!("{FILE} has a budget for {name:?}, which is not measured");
        is_good = false;
    }
    is_good
}

/// Writes a budget for every count.
pub fn write(counts: &[(&str, u64)]) {
    let mut text = HEAD.to_owned();
    for (name, count) in counts {
        let budget = (*count as f64 * MARGIN).floor();
        writeln!(text, "\"{name}\" = {budget}").unwrap();
    }
    fs::write(path(), text).unwrap();
}

fn read() -> Vec<(String, u64)> {
    let text = fs::read_to_string(path()).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let budget = |line: &str| {
        let (name, budget) = line.rsplit_once(" = ")?;
        Some((name.trim_matches('"').to_owned(), budget.parse().ok()?))
    };
    lines.map(|line| budget(line).unwrap_or_else(|| panic!("{FILE}: not a budget: {line}"))).collect()
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(FILE)
}
