//! Every target over its corpus and over damaged copies of it, and the three lists of targets alike.

use fl_rng::Xorshift32;
use libtest_mimic::{Arguments, Trial};
use std::collections::BTreeSet;
use std::fs;
use std::panic::{catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use zfl_fuzz_checks::{TARGETS, Target, Verdict};

fn main() -> ExitCode {
    let own = TARGETS.iter().flat_map(|target| {
        [
            trial(
                format!("{}_holds_over_its_corpus", target.name),
                move || corpus_holds(target),
            ),
            trial(
                format!("{}_holds_over_damaged_inputs", target.name),
                move || damaged_hold(target),
            ),
        ]
    });
    let lists = [
        trial(
            "every_target_has_a_corpus".into(),
            every_target_has_a_corpus,
        ),
        trial(
            "every_target_has_a_wrapper".into(),
            every_target_has_a_wrapper,
        ),
    ];
    libtest_mimic::run(&Arguments::from_args(), own.chain(lists).collect()).exit_code()
}

fn trial(name: String, test: impl FnOnce() + Send + 'static) -> Trial {
    Trial::test(name, move || {
        test();
        Ok(())
    })
}

fn corpus_holds(target: &Target) {
    for (path, input) in corpus(target) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let stale = checked(target, &input) == Verdict::Refused && name.starts_with("valid-");
        assert!(!stale, "{}: a valid input was refused", path.display());
    }
}

fn damaged_hold(target: &Target) {
    let corpus = corpus(target);
    let mut random = Random(Xorshift32::new(1));
    for (_, input) in &corpus {
        for _ in 0..target.damaged {
            let other = &corpus[random.below(corpus.len())].1;
            checked(target, &random.damaged(input, other));
        }
    }
}

/// Checks an input. One that breaks a property is kept in a file, to be added to the corpus.
fn checked(target: &Target, input: &[u8]) -> Verdict {
    catch_unwind(|| (target.check)(input)).unwrap_or_else(|panic| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-input", target.name));
        fs::write(&path, input).unwrap();
        println!("the input that failed is in {}", path.display());
        resume_unwind(panic)
    })
}

fn every_target_has_a_corpus() {
    let folders = fs::read_dir(fuzz().join("corpus")).unwrap();
    let folders = folders.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(folders.collect::<BTreeSet<_>>(), names());
    for target in TARGETS {
        let corpus = corpus(target);
        let has = |kind: &str| {
            let is = |path: &Path| {
                path.file_name()
                    .unwrap()
                    .to_string_lossy()
                    .starts_with(kind)
            };
            corpus.iter().any(|(path, _)| is(path))
        };
        assert!(has("valid-") && has("hostile-"), "{}", target.name);
    }
}

fn every_target_has_a_wrapper() {
    let files = fs::read_dir(fuzz().join("fuzz_targets")).unwrap();
    let stem = |path: PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
    let wrappers: BTreeSet<_> = files.map(|entry| stem(entry.unwrap().path())).collect();
    assert_eq!(wrappers, names());
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for name in names() {
        let wrapper = format!("fuzz_targets/{name}.rs");
        assert!(
            manifest.contains(&wrapper),
            "fuzz/Cargo.toml has no bin for {wrapper}"
        );
        let text = fs::read_to_string(fuzz().join(wrapper)).unwrap();
        assert!(text.contains(&format!("check(\"{name}\"")), "{text}");
    }
}

fn names() -> BTreeSet<String> {
    TARGETS
        .iter()
        .map(|target| target.name.to_owned())
        .collect()
}

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Inputs of a target in the order of their names.
fn corpus(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = fuzz().join("corpus").join(target.name);
    let entries =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path: PathBuf| (path.clone(), fs::read(path).unwrap());
    paths.into_iter().map(read).collect()
}

struct Random(Xorshift32);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0.next_u32() as usize % end.max(1)
    }

    /// A copy with one to four damages: a cut, a flipped bit, a changed octet, a piece that is doubled,
    /// taken out, or taken from another input.
    fn damaged(&mut self, input: &[u8], other: &[u8]) -> Vec<u8> {
        let mut copy = input.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(copy.len());
            let piece = self.piece(&copy);
            match self.below(6) {
                0 => copy.truncate(at),
                1 => copy
                    .iter_mut()
                    .skip(at)
                    .take(1)
                    .for_each(|octet| *octet ^= 1 << (at % 8)),
                2 => {
                    let octet = b"\0\xff\x80-.0\"[\n"[self.below(9)];
                    copy.iter_mut()
                        .skip(at)
                        .take(1)
                        .for_each(|old| *old = octet);
                }
                3 => drop(copy.splice(at..at, piece)),
                4 => drop(copy.drain(at..(at + piece.len()).min(copy.len()))),
                _ => drop(copy.splice(at..at, self.piece(other))),
            }
        }
        copy
    }

    /// A piece of at most 64 octets.
    fn piece(&mut self, of: &[u8]) -> Vec<u8> {
        let from = self.below(of.len());
        let len = self.below(65).min(of.len() - from);
        of[from..from + len].to_vec()
    }
}
