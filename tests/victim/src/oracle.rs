//! Compares what victims said was accepted with what a sink received.

use crate::pad::is_pad_of;
use crate::start::Said;
use quillet_support::Sink;
use quillet_support::sink::Event;
use std::collections::hash_map::{DefaultHasher, Entry};
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::hash::{Hash, Hasher};

/// Examples of each kind of finding that are kept.
const EXAMPLES: usize = 5;

/// Everything that a round has brought to light so far.
#[derive(Debug, Default)]
pub struct Oracle {
    accepted: BTreeSet<u64>,
    /// Every event that was ever sent, by its uuid.
    sent: HashMap<String, Sent>,
    findings: Findings,
}

/// An event as it was first sent.
#[derive(Debug)]
struct Sent {
    seq: Option<u64>,
    /// Hash of its text, which no other sending may change.
    text: u64,
    is_stored: bool,
}

/// What is wrong, and how much there was to go wrong.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    pub accepted: u64,
    pub refused: u64,
    /// Different events that the server has.
    pub stored: u64,
    /// `$exception` events among them.
    pub exceptions: u64,
    /// Events that the server stored again.
    pub duplicates: u64,
    /// Accepted, and not there although the server is not against it.
    pub lost: u64,
    /// Requests that no client should send, and events that nobody captured.
    pub torn: u64,
    /// Captures that appeared under two uuids, and uuids of two captures.
    pub two_uuids: u64,
    /// Events that came again with another identity.
    pub changed: u64,
    /// Everything else: hanging, wrong deaths, open files, false counters.
    pub others: u64,
    /// The first few of each kind.
    pub examples: Vec<String>,
}

impl Oracle {
    /// Takes in what a victim said in its life.
    pub fn listen(&mut self, said: &Said) {
        self.accepted.extend(&said.accepted);
        self.findings.refused += said.refused;
        for line in &said.nonsense {
            self.object(format!("the victim said {line:?}"));
        }
        for line in said.complaints.lines().filter(|line| line.starts_with("conserved=")) {
            let dropped = line.split_once(" dropped: [").and_then(|(_, rest)| rest.split_once(']'));
            let is_dropped = dropped.is_none_or(|(dropped, _)| dropped.split(", ").any(|count| count != "0"));
            if is_dropped || !line.starts_with("conserved=true") {
                self.object(line.to_owned());
            }
        }
    }

    /// Takes in what a sink received in its life; no victim may be alive.
    pub fn look(&mut self, sink: &Sink) {
        for violation in sink.violations() {
            // The oracle compares for itself, and longer.
            if !violation.contains("came again with another") {
                self.findings.torn += 1;
                self.example(format!("torn: {violation}"));
            }
        }
        for request in sink.requests() {
            for event in &request.events {
                self.take(event, request.stored);
            }
        }
    }

    fn take(&mut self, event: &Event, is_stored: bool) {
        let (seq, text) = (seq_of(event), hash(&event.text));
        let mut wrong = None;
        match self.sent.entry(event.uuid().to_owned()) {
            Entry::Vacant(entry) => {
                if seq.is_none_or(|seq| !is_ours(event, seq)) && event.name() != "$exception" {
                    self.findings.torn += 1;
                    wrong = Some(format!("torn: nobody captured {}", event.text));
                }
                entry.insert(Sent { seq, text, is_stored });
            }
            Entry::Occupied(mut entry) => {
                let sent = entry.get_mut();
                self.findings.duplicates += u64::from(is_stored && sent.is_stored);
                sent.is_stored |= is_stored;
                if sent.seq != seq {
                    self.findings.two_uuids += 1;
                    wrong = Some(format!("{} is the uuid of {:?} and {seq:?}", event.uuid(), sent.seq));
                } else if sent.text != text {
                    self.findings.changed += 1;
                    wrong = Some(format!("changed: {}", event.text));
                }
            }
        }
        if let Some(wrong) = wrong {
            self.example(wrong);
        }
    }

    /// Notes something else that should not be.
    pub fn object(&mut self, what: String) {
        self.findings.others += 1;
        self.example(what);
    }

    /// The verdict, when all is over; `refused` says which events the server refuses for good.
    pub fn finish(mut self, refused: impl Fn(u64) -> bool) -> Findings {
        let mut uuids: HashMap<u64, &str> = HashMap::new();
        let (mut twice, mut stored) = (Vec::new(), BTreeSet::new());
        for (uuid, sent) in &self.sent {
            self.findings.stored += u64::from(sent.is_stored);
            let Some(seq) = sent.seq else {
                self.findings.exceptions += u64::from(sent.is_stored);
                continue;
            };
            if let Some(other) = uuids.insert(seq, uuid) {
                twice.push(format!("{seq} was sent as {uuid} and as {other}"));
            }
            if sent.is_stored {
                stored.insert(seq);
            }
        }
        let missing = |seq: &u64| !stored.contains(seq) && !refused(*seq);
        let lost: Vec<u64> = self.accepted.iter().copied().filter(missing).collect();
        self.findings.accepted = self.accepted.len() as u64;
        self.findings.lost = lost.len() as u64;
        self.findings.two_uuids += twice.len() as u64;
        for example in twice.into_iter().take(EXAMPLES) {
            self.example(example);
        }
        if !lost.is_empty() {
            let sent: BTreeSet<u64> = self.sent.values().filter_map(|sent| sent.seq).collect();
            let ever = lost.iter().filter(|seq| sent.contains(seq)).count();
            self.example(format!("lost: {} events, {ever} of them sent once, {}", lost.len(), ranges(&lost)));
        }
        self.findings
    }

    fn example(&mut self, text: String) {
        if self.findings.examples.len() < 4 * EXAMPLES {
            self.findings.examples.push(text.chars().take(400).collect());
        }
    }
}

impl Findings {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        [self.lost, self.torn, self.two_uuids, self.changed, self.others] == [0; 5]
    }

    /// Adds what another round found.
    pub fn add(&mut self, other: &Self) {
        let sums = [
            (&mut self.accepted, other.accepted),
            (&mut self.refused, other.refused),
            (&mut self.stored, other.stored),
            (&mut self.exceptions, other.exceptions),
            (&mut self.duplicates, other.duplicates),
            (&mut self.lost, other.lost),
            (&mut self.torn, other.torn),
            (&mut self.two_uuids, other.two_uuids),
            (&mut self.changed, other.changed),
            (&mut self.others, other.others),
        ];
        for (sum, more) in sums {
            *sum += more;
        }
        self.examples.extend(other.examples.iter().cloned());
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} accepted, {} refused, {} stored, {} of them exceptions, {} stored again: \
             {} lost, {} torn, {} under two uuids, {} changed, {} other findings",
            self.accepted,
            self.refused,
            self.stored,
            self.exceptions,
            self.duplicates,
            self.lost,
            self.torn,
            self.two_uuids,
            self.changed,
            self.others
        )
    }
}

/// The event's number, if it is one of a victim's.
pub(crate) fn seq_of(event: &Event) -> Option<u64> {
    event.property("seq").as_u64()
}

/// Whether the event is what a victim captures under this number.
fn is_ours(event: &Event, seq: u64) -> bool {
    event.name() == "torture"
        && event.distinct_id() == "victim"
        && event.property("producer").is_u64()
        && event.property("pad").as_str().is_some_and(|pad| is_pad_of(seq, pad))
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// The first few stretches of numbers in a row.
fn ranges(numbers: &[u64]) -> String {
    let stretches = numbers.chunk_by(|a, b| a + 1 == *b).take(EXAMPLES);
    let texts: Vec<_> = stretches.map(|stretch| format!("{}-{}", stretch[0], stretch[stretch.len() - 1])).collect();
    texts.join(", ")
}
