//! Orders to a mesh in which nothing happens.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;
use zfl_mesh::MeshFleet;
use zfl_netsim::radio::{Conditions, MeshConfig, RadioProfile, Topology, TopologyKind};

/// Shorter than a mesh sleeps that has missed an order.
const LIMIT: Duration = Duration::from_secs(50);
/// Orders of each thread: enough that some come between any two of its steps.
const ORDERS: usize = 5_000;
const THREADS: usize = 3;

#[test]
fn no_order_waits_for_something_to_happen() {
    let radio = RadioProfile::load(None, "hc-12").unwrap();
    let topology = Topology::new(&TopologyKind::Line, 1, radio.range_m, 1).unwrap();
    let config = MeshConfig {
        radio,
        topology,
        conditions: Conditions::default(),
        seed: 1,
    };
    let mesh = Arc::new(MeshFleet::start(config).unwrap());
    let (tell, told) = channel();
    for number in 0..THREADS {
        let (mesh, tell) = (Arc::clone(&mesh), tell.clone());
        thread::spawn(move || {
            for order in 0..ORDERS {
                // So that orders come at any moment of a step.
                (0..(order * 37 + number * 101) % 4_096).for_each(|_| std::hint::spin_loop());
                mesh.stop(0);
            }
            let _ = tell.send(());
        });
    }
    for _ in 0..THREADS {
        assert_eq!(told.recv_timeout(LIMIT), Ok(()), "an order was missed");
    }
}
