//! A node and its radio, octet by octet.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

use fl_client::{Config, Usage};
use fl_exchange::{Net, NetError};
use fl_node::{Machine, MeshNode, Own};
use fl_radio::line::{Done, Hello, READY, Step};
use fl_radio::{Pace, Times};

/// The line's two ends.
#[derive(Clone, Default)]
struct Wire {
    to_node: Rc<RefCell<VecDeque<u8>>>,
    from_node: Rc<RefCell<Vec<u8>>>,
}

impl Wire {
    fn say(&self, octets: &[u8]) {
        self.to_node.borrow_mut().extend(octets);
    }

    fn heard(&self) -> Vec<u8> {
        std::mem::take(&mut self.from_node.borrow_mut())
    }
}

struct Test(Wire);

struct TestOwn;

/// A card without a cable.
struct NoNet;

impl Machine for Test {
    type Net = NoNet;
    type Own = TestOwn;

    fn read(&mut self, octets: &mut [u8]) -> usize {
        let mut line = self.0.to_node.borrow_mut();
        let length = octets.len().min(line.len());
        for (place, octet) in octets.iter_mut().zip(line.drain(..length)) {
            *place = octet;
        }
        length
    }

    fn write(&mut self, octets: &[u8]) {
        self.0.from_node.borrow_mut().extend(octets);
    }

    fn leaf(&mut self) -> (Config, TestOwn) {
        (Config::default(), TestOwn)
    }

    fn gateway(&mut self, _hello: &Hello) -> Option<NoNet> {
        Some(NoNet)
    }
}

impl Own for TestOwn {
    fn random(&mut self) -> [u8; 16] {
        [7; 16]
    }

    fn log(&mut self, _line: fmt::Arguments<'_>) {}

    fn free_bytes(&mut self) -> Option<u64> {
        None
    }

    fn usage(&mut self) -> Usage {
        Usage::default()
    }

    fn counted<R>(&mut self, step: impl FnOnce() -> R) -> R {
        step()
    }
}

impl Net for NoNet {
    type Stream = ();

    fn accept(&mut self, _leaf: usize) -> Option<()> {
        None
    }

    fn connect(&mut self, _leaf: usize) -> Option<()> {
        None
    }

    fn read(&mut self, _stream: &mut (), _buffer: &mut [u8]) -> Result<usize, NetError> {
        Err(NetError::Broken)
    }

    fn write(&mut self, _stream: &mut (), _bytes: &[u8]) -> Result<usize, NetError> {
        Err(NetError::Broken)
    }

    fn is_gone(&mut self, _stream: &mut ()) -> bool {
        true
    }

    fn close(&mut self, _stream: ()) {}
}

fn hello(node: u8) -> Vec<u8> {
    let pace = Pace {
        packet_us: 100_000,
        reply_us: 1_000_000,
        poll_us: 10_000_000,
        credit: 16,
        tries: 12,
    };
    let times = Times {
        listen_ms: 10,
        spread_us: 1_000,
        hops: 3,
        pace,
    };
    let hello = Hello {
        node,
        leaves: 1,
        epoch: 1,
        first_port: 8000,
        seed: 5,
        now_us: 0,
        times,
    };
    hello.emit().to_vec()
}

fn step(now_us: u64) -> Vec<u8> {
    let step = Step {
        now_us,
        ..Step::default()
    };
    let mut octets = step.emit().to_vec();
    octets.resize(step.total_bytes(), 0);
    octets
}

/// Polls a node until it waits.
fn settle(node: &mut MeshNode<Test>) {
    for _ in 0..1_000 {
        if !node.poll() {
            return;
        }
    }
    panic!("the node never waits");
}

fn done(wire: &Wire, now_us: u64) -> Done {
    let heard = wire.heard();
    let (done, head) = Done::parse(&heard, now_us).unwrap().expect("an answer");
    assert_eq!(
        heard.len(),
        head + usize::from(done.frames) * fl_radio::FRAME_BYTES
    );
    done
}

#[test]
fn a_place_and_the_first_step_may_come_in_any_pieces_and_the_step_is_answered() {
    for number in [0, 1] {
        let octets = [hello(number), step(0)].concat();
        for piece in [1, 14, 64, octets.len() - 1, octets.len()] {
            let wire = Wire::default();
            let mut node = MeshNode::new(Test(wire.clone()));
            assert_eq!(wire.heard(), [READY]);
            for part in octets.chunks(piece) {
                assert!(wire.heard().is_empty(), "an answer to half a step");
                wire.say(part);
                settle(&mut node);
            }
            done(&wire, 0);
        }
    }
}

#[test]
fn a_leaf_is_busy_with_its_request_to_join_and_a_gateway_that_nobody_asks_is_not() {
    for (number, is_busy) in [(0, false), (1, true)] {
        let wire = Wire::default();
        let mut node = MeshNode::new(Test(wire.clone()));
        wire.heard();
        wire.say(&[hello(number), step(1_000)].concat());
        settle(&mut node);
        assert_eq!(done(&wire, 1_000).is_busy, is_busy);
        assert_eq!(node.net().is_some(), number == 0);
    }
}

#[test]
fn what_is_no_place_and_no_step_is_not_answered() {
    let wire = Wire::default();
    let mut node = MeshNode::new(Test(wire.clone()));
    wire.heard();
    wire.say(&[0xff; 2_000]);
    settle(&mut node);
    assert!(wire.heard().is_empty());
}
