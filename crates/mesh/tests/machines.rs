//! Machines that do not behave as nodes of a mesh: they are named and off the air, and time goes on without them.

use fl_radio::line::{BLOCK_BYTES, Done, HELLO_BYTES, READY, Step};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;
use zfl_mesh::MeshFleet;
use zfl_netsim::radio::{Conditions, MeshConfig, RadioProfile, Topology, TopologyKind};

/// Ends what hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// A gateway and so many leaves, and what is told of nodes.
fn mesh(leaves: usize) -> (MeshFleet, Receiver<(usize, String)>) {
    let radio = RadioProfile::load(None, "hc-12").unwrap();
    let topology = Topology::new(&TopologyKind::Line, leaves, radio.range_m, 1).unwrap();
    let config = MeshConfig {
        radio,
        topology,
        conditions: Conditions::default(),
        seed: 1,
    };
    let (tell, told) = channel();
    let tell = move |node, why| _ = tell.send((node, why));
    (MeshFleet::start_emulated(config, tell).unwrap(), told)
}

/// Plugs a machine in that answers every step so, until its line ends.
fn plug(mesh: &MeshFleet, node: usize, answer: impl Fn(&Step) -> Vec<u8> + Send + 'static) {
    let (line, mut machine) = UnixStream::pair().unwrap();
    mesh.plug(node, line);
    thread::spawn(move || -> std::io::Result<()> {
        machine.write_all(&[READY])?;
        machine.read_exact(&mut [0; HELLO_BYTES])?;
        loop {
            let mut head = [0; BLOCK_BYTES];
            machine.read_exact(&mut head)?;
            let step = Step::parse(&head).expect("a step");
            machine.read_exact(&mut vec![0; step.total_bytes() - BLOCK_BYTES])?;
            machine.write_all(&answer(&step))?;
        }
    });
}

fn emit(done: Done, step: &Step) -> Vec<u8> {
    let (bytes, length) = done.emit(step.now_us);
    bytes[..length].to_vec()
}

fn idle_gateway(step: &Step) -> Vec<u8> {
    let done = Done {
        wake_us: u64::MAX,
        waiting: Some(0),
        ..Done::default()
    };
    emit(done, step)
}

#[test]
fn a_leaf_that_wants_another_step_at_the_same_time_for_ever_is_named() {
    let (mesh, told) = mesh(1);
    plug(&mesh, 0, idle_gateway);
    plug(&mesh, 1, |step| {
        let done = Done {
            wake_us: step.now_us,
            is_busy: true,
            ..Done::default()
        };
        emit(done, step)
    });
    let (node, why) = told.recv_timeout(LIMIT).unwrap();
    assert_eq!(node, 1);
    assert!(why.contains("another step at the same time"), "{why}");
}

#[test]
fn a_machine_that_says_what_no_node_says_is_named() {
    let (mesh, told) = mesh(1);
    plug(&mesh, 0, idle_gateway);
    plug(&mesh, 1, |_| vec![7]);
    let (node, why) = told.recv_timeout(LIMIT).unwrap();
    assert_eq!(
        (node, why.contains("what no node says")),
        (1, true),
        "{why}"
    );
}

#[test]
fn a_machine_that_boots_again_is_not_blamed_for_one_that_wants_another_step() {
    let (mesh, told) = mesh(2);
    plug(&mesh, 0, idle_gateway);
    // It has booted once, and then it is plugged in anew and says nothing yet.
    let (line, mut machine) = UnixStream::pair().unwrap();
    mesh.plug(2, line);
    machine.write_all(&[READY]).unwrap();
    machine.read_exact(&mut [0; HELLO_BYTES]).unwrap();
    let (line, _silent) = UnixStream::pair().unwrap();
    mesh.plug(2, line);
    plug(&mesh, 1, |step| {
        let done = Done {
            wake_us: step.now_us,
            is_busy: true,
            ..Done::default()
        };
        emit(done, step)
    });
    let (node, why) = told.recv_timeout(LIMIT).unwrap();
    assert_eq!(node, 1, "{why}");
    assert!(told.recv_timeout(Duration::from_millis(200)).is_err());
}
