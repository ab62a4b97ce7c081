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
    there_and_back_of(mesh, &|leaf| message(leaf, octets));
}

fn there_and_back_of(mesh: &mut Mesh, message: &dyn Fn(usize) -> Vec<u8>) {
    let leaves = mesh.leaves();
    for leaf in 0..leaves {
        mesh.send_down(leaf, 1, &message(leaf)).unwrap();
    }
    let mut done = 0;
    while done < leaves {
        assert!(
            mesh.step(mesh.now_us() + 3_600_000_000),
            "nothing more happens: {done} of {leaves}"
        );
        for leaf in 0..leaves {
            if let Some((label, got)) = mesh.take_down(leaf) {
                assert_eq!((label, &got), (1, &message(leaf)));
                mesh.send_up(leaf, 2, &got).unwrap();
            }
            if let Some((label, got)) = mesh.take_up(leaf) {
                assert_eq!((label, got), (2, message(leaf)));
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

#[test]
fn forty_leaves_have_the_air_by_turns() {
    let random = TopologyKind::Random { neighbours: 10.0 };
    let mut mesh = mesh("hc-12", &random, 40, Conditions::default());
    // All of them ask at once, which is more than the air takes.
    there_and_back(&mut mesh, 150);
    let stats = report(&mesh);
    let packets: u64 = stats.iter().map(|stats| stats.packets).sum();
    // Six tiles each way, an offer and two answers for each message, a call for each turn.
    let needed = 40 * (2 * (6 + 3) + 2);
    assert!(packets < 3 * needed, "{packets} packets, {needed} needed");
}

#[test]
fn no_node_of_a_mesh_is_longer_in_the_air_than_its_duty_cycle_allows() {
    let mut mesh = mesh("lora-sf7", &TopologyKind::Line, 3, Conditions::default());
    let mut ends_us = 3_600_000_000;
    let mut before = [0; 4];
    let send = |mesh: &mut Mesh| {
        for leaf in 0..3 {
            // As much as there is room for.
            _ = mesh.send_up(leaf, 1, &message(leaf, 400));
            _ = mesh.take_up(leaf);
        }
    };
    for hour in 0..4 {
        while mesh.step(ends_us) {
            send(&mut mesh);
        }
        for (node, before) in before.iter_mut().enumerate() {
            let airtime_us = mesh.stats(node).airtime_us;
            let within_us = airtime_us - std::mem::replace(before, airtime_us);
            assert!(
                within_us <= 36_000_000,
                "hour {hour}, node {node}: {within_us} us"
            );
            assert!(hour == 0 || within_us > 0);
        }
        ends_us += 3_600_000_000;
    }
}

/// Time passes, at most an hour, until a message has come to a leaf; false if none has.
fn comes(mesh: &mut Mesh, leaf: usize) -> bool {
    let until_us = mesh.now_us() + 3_600_000_000;
    while mesh.step(until_us) {
        if let Some((_, got)) = mesh.take_down(leaf) {
            assert_eq!(got, message(leaf, 700));
            return true;
        }
    }
    false
}

#[test]
fn a_killed_relay_is_routed_around_where_there_is_a_way_and_else_comes_back_with_its_subtree() {
    let send = |mesh: &mut Mesh, leaf| mesh.send_down(leaf, 1, &message(leaf, 700)).unwrap();
    let begun = |mesh: &mut Mesh| (0..3_000).for_each(|_| _ = mesh.step(u64::MAX / 4));
    // In a grid every leaf has a second way.
    let mut grid = mesh("hc-12", &TopologyKind::Grid, 12, Conditions::default());
    let relay = (0..12).find(|leaf| grid.topology().hops(leaf + 1) == 1);
    send(&mut grid, 11);
    begun(&mut grid);
    grid.kill(relay.unwrap());
    assert!(comes(&mut grid, 11));
    // In a line nobody behind it hears the gateway, until it boots again.
    let mut line = mesh("hc-12", &TopologyKind::Line, 3, Conditions::default());
    line.kill(0);
    send(&mut line, 2);
    assert!(!comes(&mut line, 2));
    line.boot(0);
    assert!(comes(&mut line, 2));
}

#[test]
fn what_a_message_says_has_no_part_in_its_course() {
    let run = |salt: u8| {
        let mut mesh = mesh("hc-12", &TopologyKind::Grid, 12, Conditions::default());
        let said = |leaf| {
            let message = message(leaf, 500);
            message
                .iter()
                .map(|octet| octet.wrapping_mul(salt))
                .collect()
        };
        there_and_back_of(&mut mesh, &said);
        (mesh.now_us(), report(&mesh))
    };
    assert_eq!(run(1), run(171));
}
