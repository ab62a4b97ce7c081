//! The serial line of an emulated radio: what a node says to it, and what it says to a node.

use crate::Verdict;
use fl_radio::FRAME_BYTES;
use fl_radio::line::{
    BLOCK_BYTES, Counts, Done, HELLO_BYTES, Hello, MAX_FRAMES, STEP_HEAD_BYTES, Step, frames,
};
use fl_radio::{Pace, Times};

/// Time of the mesh while a node answers.
const NOW_US: u64 = 1 << 40;

/// The input is octets of the line, read as each end reads them.
pub(crate) fn check(input: &[u8]) -> Verdict {
    match answers(input) | hears(input) {
        true => Verdict::Accepted,
        false => Verdict::Refused,
    }
}

/// Reads answers of a node one after the other; true if there was one.
fn answers(input: &[u8]) -> bool {
    let (mut rest, mut any) = (input, false);
    while let Ok(Some((done, head))) = Done::parse(rest, NOW_US) {
        any = true;
        assert!(usize::from(done.frames) <= MAX_FRAMES);
        assert!(done.wake_us >= NOW_US && done.due_us.is_none_or(|due_us| due_us >= NOW_US));
        let (written, length) = done.emit(NOW_US);
        assert_eq!(length, head);
        assert_eq!(
            Done::parse(&written[..length], NOW_US),
            Ok(Some((done, head)))
        );
        // A piece is no answer, and no mistake.
        assert_eq!(Done::parse(&rest[..head - 1], NOW_US), Ok(None));
        let whole = head + usize::from(done.frames) * FRAME_BYTES;
        let end = whole.min(rest.len());
        assert!(frames(&rest[head..end]).count() <= usize::from(done.frames));
        rest = &rest[end..];
    }
    any
}

/// Reads what a radio says to a node; true if it is something.
fn hears(input: &[u8]) -> bool {
    let step = Step::parse(input);
    if let Some(step) = step {
        assert_eq!(Step::parse(&step.emit()), Some(step));
        let most = STEP_HEAD_BYTES + MAX_FRAMES * FRAME_BYTES;
        assert!(step.total_bytes() <= most.next_multiple_of(BLOCK_BYTES));
    }
    let hello = input.first_chunk::<HELLO_BYTES>().and_then(Hello::parse);
    if let Some(hello) = hello {
        assert_eq!(Hello::parse(&hello.emit()), Some(hello));
    }
    step.is_some() || hello.is_some()
}

/// Seeds: each message, and those that are none.
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let done = |done: Done| {
        let (bytes, length) = done.emit(NOW_US);
        let frames = vec![0x78; usize::from(done.frames) * FRAME_BYTES];
        [&bytes[..length], &frames].concat()
    };
    let gateway = Done {
        wake_us: NOW_US + 5_000,
        is_busy: true,
        due_us: Some(NOW_US),
        waiting: Some(3),
        came: Some(11),
        counts: Some(Counts {
            packets: 1,
            again: 2,
            dropped: 3,
            hops: [4, 5],
        }),
        frames: 2,
    };
    let leaf = Done {
        wake_us: u64::MAX,
        ..Done::default()
    };
    let step = Step {
        now_us: NOW_US,
        holds: true,
        counts: true,
        gone: Some(4),
        frames: 1,
    };
    let mut heard = step.emit().to_vec();
    heard.resize(step.total_bytes(), 0x78);
    let hello = Hello {
        node: 3,
        leaves: 12,
        epoch: 7,
        first_port: 8000,
        seed: u64::MAX,
        now_us: NOW_US,
        times: Times {
            listen_ms: 31,
            spread_us: 117_336,
            hops: 5,
            pace: Pace {
                packet_us: 177_670,
                reply_us: 1_400_000,
                poll_us: 18_000_000,
                credit: 32,
                tries: 16,
            },
        },
    };
    vec![
        ("valid-answers", [done(gateway), done(leaf)].concat()),
        ("valid-step", heard),
        ("valid-hello", hello.emit().to_vec()),
        ("torn-answer", done(gateway)[..9].to_vec()),
        ("hostile-too-many-frames", vec![0x80, 17, 0, 0, 0, 0]),
        ("hostile-unknown-flags", vec![0xe0, 0, 0, 0, 0, 0]),
    ]
}
