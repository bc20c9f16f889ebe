//! Rules of the house that a compiler does not know: who may say what, how long a file may get, what the prose must
//! keep up with.
//!
//! In: the files of this repository. Out: one line per broken rule, with file and line. Each exception is listed here
//! and has to be needed: one that no file makes use of is itself an error.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that fails should stop")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// Longest Rust file, in lines, tests and docs included. Half of it is the aim; a file past it holds two things.
const LINES_MAX: usize = 800;
/// Files that may be longer, and how long.
const LONG_FILES: &[(&str, usize)] = &[];

/// Longest line of Rust, in characters. rustfmt breaks code at 120, but neither comments nor strings: a word may hang over.
const COLUMNS_MAX: usize = 128;

/// Library files that may switch the lint `unsafe_code` off.
const UNSAFE_FILES: &[&str] = &[
    "core/src/ring/arena.rs",
    "core/src/ring/gauge.rs",
    "core/src/wire/plain.rs",
    "core/src/wire/simd.rs",
    "core/src/wire/writer.rs",
    "std-adapter/src/arena.rs",
    "std-adapter/src/crash/file.rs",
    "std-adapter/src/crash/guard.rs",
    "std-adapter/src/crash/signal.rs",
    "std-adapter/src/crash/slots.rs",
    "std-adapter/src/fork.rs",
    "std-adapter/src/crash/stack.rs",
    "std-adapter/src/lanes/cell.rs",
    "std-adapter/src/spool/map.rs",
    "std-adapter/src/spool/platform.rs",
    "std-adapter/src/sys.rs",
];

/// What only some files of the libraries may name: needle, the files (or folders) that may, and why.
const NAMED_ONLY_IN: &[(&str, &[&str], &str)] = &[
    ("ureq::", &["std-adapter/src/transport/"], "the HTTP library can be replaced by replacing one file"),
    (
        "libc::",
        &[
            "std-adapter/src/sys.rs",
            "std-adapter/src/fork.rs",
            "std-adapter/src/crash/",
            "std-adapter/src/spool/map.rs",
            "std-adapter/src/spool/platform.rs",
        ],
        "calls of the operating system are listed in few places",
    ),
    (
        "Instant::now",
        &["std-adapter/src/clock.rs", "std-adapter/src/transport/", "std-adapter/src/log.rs"],
        "the core and the worker are told the time, so that tests can step it",
    ),
    (
        "SystemTime::now",
        &["std-adapter/src/sys.rs", "std-adapter/src/transport/", "std-adapter/src/observers.rs"],
        "an event's time comes from one clock",
    ),
    ("extern crate alloc", &[], "the core allocates nothing, and the adapter has std"),
];

/// Library files besides `wire/mod.rs` that spell names of PostHog, where a constant cannot stand.
const NAMES_SPELLED_IN: &[&str] = &[
    "core/src/common.rs", // one literal, joined at compile time; a test compares it with the constants
];

/// What must not stay in a file: needle and what to do instead.
const UNFINISHED: &[(&str, &str)] = &[
    (concat!("todo", "!("), "finish it"),
    (concat!("unimplemented", "!("), "finish it"),
    (concat!("dbg", "!("), "remove it"),
    (concat!("#[", "ignore"), "a test that does not run proves nothing: run it or delete it"),
    (concat!("FIX", "ME"), "fix it"),
    (concat!("<<<<", "<<< "), "finish the merge"),
];

#[test]
fn no_file_holds_more_than_one_sitting() {
    let mut broken = Broken::default();
    let mut excused = BTreeSet::new();
    for file in rust_files() {
        let lines = file.text.lines().count();
        let exception = LONG_FILES.iter().find(|(path, _)| *path == file.path);
        if lines > LINES_MAX {
            excused.extend(exception.map(|(path, _)| *path));
        }
        let limit = exception.map_or(LINES_MAX, |(_, limit)| *limit);
        broken.when(lines > limit, &file, lines, "longer than allowed: which two things live here?");
    }
    let listed = LONG_FILES.iter().map(|(path, _)| *path).collect();
    broken.report_unused("LONG_FILES", &listed, &excused);
    broken.check();
}

#[test]
fn no_line_is_wider_than_the_page() {
    let mut broken = Broken::default();
    for file in rust_files() {
        for (number, line) in file.lines() {
            let too_wide = line.chars().count() > COLUMNS_MAX && !line.contains("https://");
            broken.when(too_wide, &file, number, "too wide");
        }
    }
    broken.check();
}

#[test]
fn every_text_file_ends_its_lines_alike() {
    let mut broken = Broken::default();
    for file in files(&["rs", "md", "toml", "sh"]) {
        broken.when(!file.text.ends_with('\n'), &file, file.text.lines().count(), "no newline at the end");
        for (number, line) in file.lines() {
            broken.when(line.ends_with([' ', '\t', '\r']), &file, number, "white space at the end of a line");
            broken.when(line.contains('\t'), &file, number, "a tab");
        }
    }
    broken.check();
}

/// Workspace lints deny `unsafe_code`, so a file without this attribute has none.
#[test]
fn unsafe_code_lives_where_it_is_expected() {
    let mut broken = Broken::default();
    let mut seen = BTreeSet::new();
    for file in library_files() {
        for (number, line) in file.code() {
            if line.contains("unsafe_code") && !line.contains("deny(") && !line.contains("forbid(") {
                seen.extend(UNSAFE_FILES.iter().find(|path| **path == file.path).copied());
                broken.when(!UNSAFE_FILES.contains(&file.path.as_str()), &file, number, "not among UNSAFE_FILES");
            }
        }
    }
    broken.report_unused("UNSAFE_FILES", &UNSAFE_FILES.iter().copied().collect(), &seen);
    broken.check();
}

#[test]
fn the_libraries_name_their_dependencies_in_one_place() {
    let mut broken = Broken::default();
    for file in library_files() {
        for (number, line) in file.code() {
            for (needle, allowed, why) in NAMED_ONLY_IN {
                let elsewhere = !allowed.iter().any(|path| file.path.starts_with(path));
                broken.when(elsewhere && line.contains(needle), &file, number, &format!("`{needle}` here: {why}"));
            }
        }
    }
    broken.check();
}

#[test]
fn posthog_names_are_spelled_in_one_file() {
    let mut broken = Broken::default();
    let (mut spelled, mut excused) = (0, BTreeSet::new());
    for file in library_files() {
        for (number, line) in file.code() {
            // A string literal that starts with, or quotes, a name like `$lib`.
            let names = line
                .match_indices("\"$")
                .filter(|(at, found)| line[at + found.len()..].starts_with(|next: char| next.is_ascii_lowercase()))
                .count();
            if file.path == "core/src/wire/mod.rs" {
                spelled += names;
            } else if let Some(path) = NAMES_SPELLED_IN.iter().find(|path| **path == file.path && names > 0) {
                excused.insert(*path);
            } else {
                broken.when(names > 0, &file, number, "spells a PostHog name: use a constant of `wire::key`");
            }
        }
    }
    assert!(spelled > 0, "core/src/wire/mod.rs spells no names: this test looks for them in vain");
    broken.report_unused("NAMES_SPELLED_IN", &NAMES_SPELLED_IN.iter().copied().collect(), &excused);
    broken.check();
}

#[test]
fn nothing_is_left_unfinished() {
    let mut broken = Broken::default();
    for file in rust_files() {
        for (number, line) in file.lines().filter(|(_, line)| !is_comment(line) || line.contains("FIX")) {
            for (needle, instead) in UNFINISHED {
                broken.when(line.contains(needle), &file, number, &format!("`{needle}`: {instead}"));
            }
        }
    }
    broken.check();
}

#[test]
fn every_file_says_what_it_is_for() {
    let mut broken = Broken::default();
    for file in rust_files() {
        let opens = file.text.lines().take(12).any(|line| line.starts_with("//!") || line.starts_with("#![doc"));
        broken.when(!opens, &file, 1, "no module documentation at the top");
    }
    broken.check();
}

#[test]
fn the_core_is_no_std_whatever_the_features() {
    let text = read("core/src/lib.rs");
    assert!(text.lines().any(|line| line == "#![no_std]"), "core/src/lib.rs must say #![no_std], unconditionally");
}

#[test]
fn the_msrv_is_stated_once() {
    let mut broken = Broken::default();
    for file in files(&["toml"]) {
        for (number, line) in file.lines() {
            let states = line.starts_with("rust-version") && line.contains('"') || line.starts_with("msrv");
            broken.when(states && file.path != "Cargo.toml", &file, number, "say `rust-version.workspace = true`");
        }
        broken.when(file.path.ends_with("rust-toolchain.toml"), &file, 1, "names a toolchain a machine may lack");
    }
    broken.check();
    assert!(!Path::new(ROOT).join("rust-toolchain").exists(), "names a toolchain a machine may lack");
}

#[test]
fn the_prose_speaks_of_this_version() {
    let version = env!("CARGO_PKG_VERSION");
    let changelogs: Vec<_> = files(&["md"]).into_iter().filter(|file| file.path.ends_with("CHANGELOG.md")).collect();
    assert!(!changelogs.is_empty(), "no CHANGELOG.md");
    for file in changelogs {
        let heading = file.text.lines().any(|line| line.starts_with('#') && line.contains(version));
        assert!(heading, "{}: no heading for {version}", file.path);
    }
    // As a dependency is written: without the patch, which cargo chooses.
    let (minor, _) = version.rsplit_once('.').unwrap();
    let readme = read("README.md");
    assert!(readme.contains(&format!("\"{minor}")), "README.md does not say how to depend on {minor}");
}

/// Every operator that a filter of a flag may have, and that local evaluation therefore has to say something about.
const FLAG_OPERATORS: &str = "exact is_not is_set is_not_set icontains not_icontains icontains_multi not_icontains_multi \
    starts_with not_starts_with ends_with not_ends_with regex not_regex gt gte lt lte between not_between is_date_before \
    is_date_after is_date_exact semver_eq semver_neq semver_gt semver_gte semver_lt semver_lte semver_tilde semver_caret \
    semver_wildcard in not_in flag_evaluates_to";

/// Whoever looks an operator up finds it, wherever the operators are listed.
#[test]
fn each_table_of_operators_is_whole() {
    for path in ["README.md", "std-adapter/src/lib.rs", "core/src/flags/mod.rs"] {
        let text = read(path);
        let lines = text.lines().map(|line| line.trim_start_matches("//! "));
        let table = lines.skip_while(|line| !line.starts_with("| operator |")).take_while(|line| line.starts_with('|'));
        let names: String = table.filter_map(|row| row.split('|').nth(1)).collect();
        for operator in FLAG_OPERATORS.split_whitespace() {
            assert_eq!(names.matches(&format!("`{operator}`")).count(), 1, "{path} lists {operator}");
        }
    }
}

/// A command in the README that names a program, a test or a script which is not there is worse than none.
#[test]
fn the_readme_names_only_what_exists() {
    let readme = read("README.md");
    let words: Vec<_> = readme.split(|c: char| c.is_whitespace() || "`()[]|,;\"".contains(c)).collect();
    let mut missing = BTreeSet::new();
    for (at, word) in words.iter().enumerate() {
        let next = words.get(at + 1).copied().unwrap_or_default();
        let program = |folder: &str| {
            let at = Path::new(ROOT).join(folder);
            at.join(format!("{next}.rs")).exists() || at.join(next).is_dir() || next.is_empty()
        };
        let there = match *word {
            "--example" => program("examples"),
            "--test" => program("tests") || program("core/tests") || program("std-adapter/tests"),
            "--bench" => program("benches"),
            word if word.starts_with("scripts/") => Path::new(ROOT).join(word.trim_end_matches(['.', ':'])).exists(),
            _ => true,
        };
        if !there {
            missing.insert(format!("{word} {next}"));
        }
    }
    assert!(missing.is_empty(), "README.md names what is not there: {missing:?}");
}

/// What is ticked there is shown by tests that it names, and each of these is a test.
#[test]
fn the_readme_names_its_proofs() {
    let readme = read("README.md");
    let table = readme.split("### What an answer means").next().unwrap();
    let (_, proofs) = table.split_once("Each tick is shown by tests of these names:").unwrap();
    let tests: Vec<_> = rust_files().into_iter().filter(|file| file.path.starts_with("tests/")).collect();
    let is_test = |name: &str| {
        let (function, scenario) = (format!("#[test]\nfn {name}()"), format!("(\"{name}\", "));
        tests.iter().any(|file| file.text.contains(&function) || file.text.contains(&scenario))
    };
    let quoted = || proofs.split('`').skip(1).step_by(2);
    let files: Vec<_> = quoted().filter(|word| word.contains('/')).collect();
    let names: Vec<_> = quoted().filter(|word| !word.contains('/') && !word.starts_with("cargo ")).collect();
    for path in files {
        assert!(Path::new(ROOT).join(path).exists(), "{path}");
    }
    for name in &names {
        assert!(is_test(name), "no test is called {name}");
    }
    for row in 1..=10 {
        assert!(proofs.contains(&format!("\n{row}. ")), "nothing shows row {row}");
    }
    assert!(names.len() > 15);
}

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Folders that hold what was built, found or downloaded.
const SKIPPED: &[&str] = &["target", "corpus", "artifacts", "coverage", "node_modules"];

struct File {
    /// From the repository's root, with `/`.
    path: String,
    text: String,
}

impl File {
    /// Lines with their numbers, from 1.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(at, line)| (at + 1, line))
    }

    /// Lines of code that ends up in a program: no comments, and nothing from the file's unit tests on, which stand last.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let tests_only = self.path.ends_with("/tests.rs") || self.path.contains("/tests/");
        self.lines()
            .take_while(move |(_, line)| {
                !tests_only && !line.starts_with("#[cfg(test)]") && !line.starts_with("#[cfg(all(test")
            })
            .filter(|(_, line)| !is_comment(line))
    }
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

fn rust_files() -> Vec<File> {
    // This file spells what it forbids.
    files(&["rs"]).into_iter().filter(|file| file.path != "tests/tidy.rs").collect()
}

/// What a user links: the two libraries without their tests.
fn library_files() -> Vec<File> {
    let of_a_library = |file: &File| file.path.starts_with("core/src/") || file.path.starts_with("std-adapter/src/");
    rust_files().into_iter().filter(of_a_library).collect()
}

fn files(extensions: &[&str]) -> Vec<File> {
    let mut found = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(Path::new(ROOT).join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
            if entry.file_type().unwrap().is_dir() {
                if !name.starts_with('.') && !SKIPPED.contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if name.rsplit_once('.').is_some_and(|(_, extension)| extensions.contains(&extension)) {
                let text = read(&path);
                found.push(File { path, text });
            }
        }
    }
    assert!(!found.is_empty(), "no files with the extensions {extensions:?} under {ROOT}");
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Everything wrong at once, so that one run shows it all.
#[derive(Default)]
struct Broken {
    count: usize,
    list: String,
}

impl Broken {
    fn when(&mut self, broken: bool, file: &File, line: usize, rule: &str) {
        if broken {
            self.count += 1;
            writeln!(self.list, "{}:{line}: {rule}", file.path).unwrap();
        }
    }

    fn report_unused(&mut self, table: &str, listed: &BTreeSet<&str>, used: &BTreeSet<&str>) {
        for path in listed.difference(used) {
            self.count += 1;
            writeln!(self.list, "{table} lists {path}, which does not need it (any more)").unwrap();
        }
    }

    fn check(self) {
        assert!(self.count == 0, "{} to tidy up:\n{}", self.count, self.list);
    }
}
