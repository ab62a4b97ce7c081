use super::*;
use crate::radio::TopologyKind;

fn mesh(radio: &str, kind: &TopologyKind, leaves: usize, conditions: Conditions) -> Mesh {
    let radio = RadioProfile::load(None, radio).unwrap();
    let topology = Topology::new(kind, leaves, radio.range_m, 1).unwrap();
    let config = MeshConfig {
        radio,
        topology,
        conditions,
        seed: 1,
    };
    Mesh::new(config).unwrap()
}

fn message(leaf: usize, octets: usize) -> Vec<u8> {
    (0..octets)
        .map(|at| (at * 7 + leaf * 31 + at / 251) as u8)
        .collect()
}

/// Sends a message to every leaf, and as many octets back once it has come.
fn there_and_back(mesh: &mut Mesh, octets: usize) {
    let leaves = mesh.leaves();
    for leaf in 0..leaves {
        mesh.send_down(leaf, 1, &message(leaf, octets)).unwrap();
    }
    let mut done = 0;
    while done < leaves {
        assert!(
            mesh.step(mesh.now_us() + 3_600_000_000),
            "nothing more happens: {done} of {leaves}"
        );
        for leaf in 0..leaves {
            if let Some((label, got)) = mesh.take_down(leaf) {
                assert_eq!((label, &got), (1, &message(leaf, octets)));
                mesh.send_up(leaf, 2, &got).unwrap();
            }
            if let Some((label, got)) = mesh.take_up(leaf) {
                assert_eq!((label, got), (2, message(leaf, octets)));
                done += 1;
            }
            assert_eq!(mesh.failure_up(leaf), None, "leaf {leaf}");
        }
    }
}

fn report(mesh: &Mesh) -> Vec<NodeStats> {
    (0..=mesh.leaves()).map(|node| mesh.stats(node)).collect()
}

#[test]
fn twelve_leaves_over_three_hops_get_and_send_a_model_and_one_seed_gives_one_course() {
    for loss in [0.0, 0.05, 0.15] {
        let conditions = Conditions {
            loss,
            bit_errors: 1e-5,
        };
        let run = || {
            let mut mesh = mesh("hc-12", &TopologyKind::Grid, 12, conditions);
            there_and_back(&mut mesh, 1_400);
            (mesh.now_us(), report(&mesh))
        };
        let (now_us, stats) = run();
        println!("loss {loss}: {} s", now_us / 1_000_000);
        for (node, stats) in stats.iter().enumerate() {
            println!("{node}: {stats:?}");
        }
        assert_eq!(run(), (now_us, stats));
    }
}
