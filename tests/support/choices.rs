//! Flags that choose an algorithm or an encoding.

use fl_proto::codec::{self, Encodes};

/// Flags that choose an algorithm, so that it does what is its own and its model depends on no time.
pub fn choosing(name: &'static str) -> Vec<&'static str> {
    let more: &[&str] = match name {
        "fedprox" => &["proximal_mu=0.1"],
        "fedavgm" => &["server_momentum=0.9"],
        "fednova" => &["mu=0.1", "rho=0.5"],
        "qfedavg" => &["q=2"],
        "fedbuff" => &["buffer_size=4"],
        "multi-krum" => &["num_nodes_to_select=2"],
        _ => &[],
    };
    let more = more.iter().flat_map(|value| ["--strategy-arg", value]);
    let mut flags: Vec<_> = ["--strategy", name].into_iter().chain(more).collect();
    match name {
        "fedasync" => flags.extend(["--clients-per-round", "1"]),
        // Its `rho` is the momentum of the optimizer.
        "fednova" => {
            flags.extend(["--optimizer", "momentum", "--optimizer-arg", "momentum=0.5"]);
        }
        _ => {}
    }
    flags
}

/// Every encoding by its name, and the flags that choose it each way, or where it goes up alone, a plain one down.
pub fn encodings() -> Vec<(&'static str, [&'static str; 4])> {
    let choose = |name, down| (name, ["--encoding-up", name, "--encoding-down", down]);
    let all = codec::ALL.iter().map(|codec| match codec.encodes() {
        Encodes::ChangesWithFeedback => choose(codec.name(), "f16"),
        _ => choose(codec.name(), codec.name()),
    });
    all.collect()
}
