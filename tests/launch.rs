//! Runs on several nodes: those of this machine, and those of a cluster of Slurm.

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use support::{Live, Run, SMALL, descendants, finish, folder, root, signal, wait_until, zfl};

/// Flags of a launch of seven native devices.
fn small<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let flags = ["--clients", "7", "--dashboard", "off"];
    [&SMALL, &flags[..], more].concat()
}

/// A launch on so many nodes of this machine, which writes to a folder of its own.
fn launched(nodes: &str, flags: &[&str]) -> Live {
    Live::start_as(zfl().args(["launch", "--local", nodes]).args(flags))
}

#[test]
fn three_nodes_make_the_model_of_one_machine_and_two_go_on_with_it() {
    let flat = Run::succeeds(&small(&["--rounds", "4", "--clients-per-round", "5"]));
    let begun = launched("3", &small(&["--rounds", "2", "--clients-per-round", "5"])).finish();
    assert_eq!(begun.said.status, Some(0), "{begun:?}");
    let out = begun.out();
    for client in 0..7 {
        let log = out.join(format!("serial/{client}.log"));
        assert!(log.is_file(), "no log of device {client}");
    }
    for edge in 0..3 {
        assert!(out.join(format!("edges/{edge}.jsonl")).is_file(), "{edge}");
    }
    let resume = [
        "launch",
        "--local",
        "2",
        "--rounds",
        "4",
        "--dashboard",
        "off",
        "--resume",
    ];
    let resumed = finish(zfl().args(resume).arg(&out));
    assert_eq!(resumed.status, Some(0), "{resumed:?}");
    assert!(resumed.out.contains("goes on after round 2"), "{resumed:?}");
    assert_eq!(begun.model(), flat.model());
}

#[test]
fn flat_one_edge_three_edges_and_three_nodes_make_one_model() {
    let adam = ["--strategy", "fedadam", "--strategy-arg", "eta=0.01"];
    let algorithms: [&[&str]; 4] = [
        &["--strategy", "fedavg"],
        &["--strategy", "fedprox", "--strategy-arg", "proximal_mu=0.1"],
        &["--strategy", "scaffold"],
        &adam,
    ];
    for algorithm in algorithms {
        let digits = ["--data", "zfl:digits", "--rounds", "2"];
        let some = ["--clients-per-round", "5"];
        let flags = small(&[&digits[..], &some, algorithm].concat());
        let flat = Run::succeeds(&flags).model();
        for edges in ["1", "3"] {
            let run = Run::succeeds(&[&flags[..], &["--edges", edges]].concat());
            assert_eq!(run.model(), flat, "{algorithm:?} with {edges} edges");
        }
        let nodes = launched("3", &flags).finish();
        assert_eq!(nodes.said.status, Some(0), "{nodes:?}");
        assert_eq!(nodes.model(), flat, "{algorithm:?} on three nodes");
    }
}

/// A root that waits for so many nodes, and what it says.
struct Waiting {
    root: support::Guarded,
    at: String,
    count: &'static str,
}

const SECRET: &str = "correct-horse-battery";

impl Waiting {
    /// Starts the root in this folder, where its run directory is `run`.
    fn start(folder: &Path, count: &'static str, flags: &[&str]) -> Self {
        let root_at = "127.0.0.1:0";
        let mut root = zfl();
        root.args(["agent", "--only", "root", "--listen", root_at]);
        root.args(flags).arg("--out").arg(folder.join("run"));
        place(&mut root, count, "0", root_at);
        let said = folder.join("stdout");
        root.stdout(fs::File::create(&said).unwrap());
        let root = support::Guarded::start(&mut root);
        let at = wait_until("the root listens", support::LIMIT, || {
            let said = fs::read_to_string(&said).unwrap_or_default();
            let (_, at) = said.split_once("wait for nodes at ")?;
            Some(at.split_once('\n')?.0.to_owned())
        });
        Self { root, at, count }
    }

    /// The command of a node.
    fn node(&self, rank: &str) -> Command {
        let mut command = zfl();
        place(
            command.args(["agent", "--only", "node"]),
            self.count,
            rank,
            &self.at,
        );
        command
    }
}

/// Gives a process its place among the nodes.
fn place(command: &mut Command, count: &str, rank: &str, at: &str) {
    command.env("ZFL_RANK", rank).env("ZFL_WORLD", count);
    command
        .env("ZFL_LAUNCH_TOKEN", SECRET)
        .env("ZFL_ROOT_AT", at);
}

/// A command in a mount namespace where this folder is empty.
fn without(hidden: &Path, command: &Command) -> Command {
    let script = "mount -t tmpfs none \"$0\" && exec \"$@\"";
    let mut unshare = Command::new("unshare");
    unshare.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]);
    unshare.arg(hidden).arg(command.get_program());
    unshare.args(command.get_args());
    for (name, value) in command.get_envs() {
        unshare.env(name, value.expect("only what is set"));
    }
    unshare.stdin(Stdio::null());
    unshare
}

#[test]
fn nodes_that_share_no_folder_with_the_root_get_all_they_need_from_it() {
    let flags = small(&["--rounds", "2"]);
    let flat = Run::succeeds(&flags).model();
    let folder = folder();
    let dir = folder.path().canonicalize().unwrap();
    let of_root = dir.join("root");
    fs::create_dir(&of_root).unwrap();
    let mut waiting = Waiting::start(&of_root, "2", &flags);
    let away = tempfile::tempdir().unwrap();
    let mut nodes = Vec::new();
    for rank in ["0", "1"] {
        // It stands outside the tree, where there is no data set, and what it writes is its own.
        let own = away.path().join(rank);
        fs::create_dir(&own).unwrap();
        let mut node = without(&of_root, &waiting.node(rank));
        node.env("TMPDIR", &own).current_dir(&own);
        nodes.push((support::Guarded::start(&mut node), own));
    }
    for (mut node, own) in nodes {
        assert!(node.finish().success(), "{}", own.display());
        let left: Vec<_> = fs::read_dir(&own).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
    assert!(waiting.root.finish().success());
    let run = of_root.join("run");
    for client in 0..7 {
        let log = fs::read_to_string(run.join(format!("serial/{client}.log"))).unwrap();
        assert!(log.contains("round 2"), "{log}");
    }
    for edge in 0..2 {
        let events = fs::read_to_string(run.join(format!("edges/{edge}.jsonl"))).unwrap();
        assert!(events.contains("result_received"), "{events}");
    }
    let summary = fs::read_to_string(run.join("summary.json")).unwrap();
    assert!(summary.contains(&flat), "{flat} is not in {summary}");
}

#[test]
fn a_node_that_comes_back_without_what_scaffold_kept_of_its_clients_is_refused() {
    let folder = folder();
    // It has no end of its own, and goes on with the devices of one node.
    let flags = small(&[
        "--strategy",
        "scaffold",
        "--rounds",
        "1000000",
        "--quorum",
        "1",
    ]);
    let mut waiting = Waiting::start(folder.path(), "2", &flags);
    let nodes = ["0", "1"].map(|rank| support::Guarded::start(&mut waiting.node(rank)));
    let events = folder.path().join("run/events.jsonl");
    let wait_for = |what: &str| {
        wait_until(what, support::LIMIT, || {
            let events = fs::read_to_string(&events).unwrap_or_default();
            events.contains(what).then_some(())
        });
    };
    wait_for("\"event\":\"round_finished\",\"round\":1,");
    signal(nodes[1].pid(), "KILL");
    wait_for("its node is lost");
    let again = finish(&mut waiting.node("1"));
    assert_eq!(again.status, Some(2), "{again:?}");
    let why = "the algorithm keeps something of each client, which was lost with the node";
    assert!(again.err.contains(why), "{again:?}");
    signal(waiting.root.pid(), "TERM");
    waiting.root.finish();
}

#[test]
fn a_run_goes_on_without_a_node_that_is_killed_and_nothing_stays() {
    // It has no end of its own.
    let mut live = launched("3", &small(&["--rounds", "1000000"]));
    live.wait_for_round(2);
    let nodes = descendants(live.pid());
    let of_rank = |pid| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let mut variables = environment.split(|octet| *octet == 0);
        variables.any(|variable| variable == b"ZFL_RANK=1")
    };
    let killed = nodes.iter().find(|process| of_rank(process.pid));
    let killed = killed.expect("there is a node 1").pid;
    signal(killed, "KILL");
    live.wait_for("a round without the lost cluster is complete", |event| {
        event["event"] == "round_finished" && event["cohort_size"] == 5
    });
    signal(live.pid(), "TERM");
    let all = descendants(live.pid());
    let run = live.finish();
    assert_eq!(run.said.status, Some(143), "{run:?}");
    let lost = "lost: node 1 (";
    assert!(
        run.said.err.contains(lost) || run.said.out.contains(lost),
        "{run:?}"
    );
    wait_until("every process is gone", support::LIMIT, || {
        (!all.iter().any(support::is_alive)).then_some(())
    });
}

#[test]
fn what_nodes_cannot_do_is_refused_before_a_folder_is_made() {
    let cases: [(&[&str], &str); 4] = [
        (&["--drop-out", "10%"], "planned faults"),
        (&["--strategy", "median"], "median needs each update"),
        (&["--strategy", "ditto"], "personal models"),
        (&["--local", "8"], "8 edges for 7 devices"),
    ];
    let folder = folder();
    for (flags, why) in cases {
        let out = folder.path().join("run");
        let nodes = match flags {
            ["--local", ..] => &[][..],
            _ => &["--local", "2"],
        };
        let mut command = zfl();
        command
            .arg("launch")
            .args(nodes)
            .args(small(&["--rounds", "2"]));
        let said = finish(command.args(flags).arg("--out").arg(&out));
        assert_eq!(said.status, Some(2), "{flags:?}: {said:?}");
        assert!(said.err.contains(why), "{flags:?}: {}", said.err);
        assert!(!out.exists(), "{flags:?}");
    }
}

#[test]
fn an_agent_without_a_place_or_a_token_says_what_to_set() {
    let agent = |variables: &[(&str, &str)]| {
        let mut command = zfl();
        let command = command.arg("agent").env_remove("SLURM_PROCID");
        finish(command.envs(variables.iter().copied()))
    };
    let place = [("ZFL_RANK", "0"), ("ZFL_WORLD", "1")];
    let short = [&place[..], &[("ZFL_LAUNCH_TOKEN", "short")]].concat();
    for (variables, advice) in [
        (&[][..], "srun"),
        (&place, "ZFL_LAUNCH_TOKEN"),
        (&short, "16 to 32"),
    ] {
        let said = agent(variables);
        assert_eq!(said.status, Some(2), "{said:?}");
        assert!(said.err.contains(advice), "{said:?}");
    }
}

#[test]
fn a_node_with_another_token_is_refused_and_the_launch_waits_for_the_right_one() {
    let folder = folder();
    let mut waiting = Waiting::start(folder.path(), "1", &small(&["--rounds", "1"]));
    let mut wrong = waiting.node("0");
    let wrong = finish(wrong.env("ZFL_LAUNCH_TOKEN", "another-horse-battery"));
    assert_eq!(wrong.status, Some(2), "{wrong:?}");
    assert!(wrong.err.contains("another token"), "{wrong:?}");
    let right = finish(&mut waiting.node("0"));
    assert_eq!(right.status, Some(0), "{right:?}");
    assert!(waiting.root.finish().success());
    assert!(folder.path().join("run/summary.json").is_file());
}

#[test]
fn the_script_of_a_job_is_what_a_shell_takes() {
    let mut command = zfl();
    command.args(["launch", "-N", "3", "--print", "--sbatch=--time=1:00:00"]);
    let said = finish(command.args(["experiments/cluster.toml", "--seed", "7"]));
    assert_eq!(said.status, Some(0), "{said:?}");
    let lines: Vec<&str> = said.out.lines().collect();
    for wanted in [
        "#SBATCH --nodes=3",
        "#SBATCH --no-kill",
        "#SBATCH --time=1:00:00",
        "export ZFL_LAUNCH_TOKEN",
    ] {
        assert!(lines.contains(&wanted), "{wanted} is missing: {}", said.out);
    }
    let root = "agent --only root experiments/cluster.toml --seed 7";
    assert!(said.out.contains(root), "{}", said.out);
    let mut command = zfl();
    command
        .args(["--root", "."])
        .args(["launch", "-N", "3", "--print"]);
    let rooted = finish(command.arg("experiments/cluster.toml"));
    let wanted = "agent --only root --root . experiments/cluster.toml";
    assert!(rooted.out.contains(wanted), "{rooted:?}");
    let file = folder();
    let script = file.path().join("job");
    fs::write(&script, &said.out).unwrap();
    let checked = finish(Command::new("sh").arg("-n").arg(&script));
    assert_eq!(checked.status, Some(0), "{checked:?}");
}

/// Value of a key of the manifest, at this depth of spaces.
fn values<'a>(manifest: &'a str, depth: usize, key: &str) -> Vec<&'a str> {
    let start = format!("{}{key}: ", " ".repeat(depth));
    let lines = manifest
        .lines()
        .filter_map(|line| line.strip_prefix(&start));
    lines.map(|value| value.trim_matches('"')).collect()
}

#[test]
fn the_manifest_of_kubernetes_is_an_indexed_job_that_agrees_with_itself() {
    let manifest = fs::read_to_string(root().join("docs/kubernetes.yaml")).unwrap();
    let value = |depth, key| values(&manifest, depth, key);
    assert_eq!(value(0, "kind"), ["Service", "Job"]);
    assert_eq!(value(0, "apiVersion"), ["v1", "batch/v1"]);
    assert_eq!(value(2, "completionMode"), ["Indexed"]);
    assert_eq!(value(2, "clusterIP"), ["None"]);
    // All pods at once, as many as an agent is told that there are.
    let count = value(2, "completions");
    assert_eq!(value(2, "parallelism"), count);
    assert!(manifest.contains(&format!(
        "name: ZFL_WORLD\n              value: \"{}\"",
        count[0]
    )));
    // The root's pod has the name of the job and its index, below that of the service.
    let (names, service) = (value(2, "name"), value(6, "subdomain"));
    assert_eq!([names[0]], service[..]);
    let at = format!("value: \"{}-0.{}:8707\"", names[1], service[0]);
    assert!(manifest.contains(&at), "{at}");
    // The arguments are those of an agent.
    let args = value(10, "args")[0];
    let args: Vec<String> = serde_json::from_str(args).unwrap();
    let mut agent = zfl();
    agent.args(&args).env("ZFL_RANK", "x").env("ZFL_WORLD", "3");
    let said = finish(&mut agent);
    assert!(said.err.contains("ZFL_RANK=x"), "{said:?}");
}

/// Runs job.sh on a cluster of three nodes, which are namespaces of this machine.
fn on_slurm(kill_in: &str, flags: &[&str]) -> support::Said {
    let folder = folder();
    let dir = folder.path().canonicalize().unwrap();
    let scripts = root().canonicalize().unwrap().join("tests/slurm");
    let mut cluster = Command::new("unshare");
    cluster.args([
        "--net",
        "--mount",
        "--pid",
        "--uts",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "sh",
    ]);
    cluster.arg(scripts.join("cluster.sh")).arg(&dir).arg("3");
    cluster.arg("sh").arg(scripts.join("job.sh")).arg(&dir);
    cluster.arg(env!("CARGO_BIN_EXE_zfl")).args(["3", kill_in]);
    let said = finish(cluster.args(flags).args(["--dashboard", "off"]));
    if let Some(logs) = said.status.filter(|status| *status != 0) {
        panic!("{logs}: {said:?}");
    }
    said
}

#[test]
#[ignore = "needs Slurm's daemons and root: cargo xtask test"]
fn a_job_of_slurm_goes_on_without_a_node_that_is_killed_in_round_4() {
    let flags = [
        "--body",
        "bare",
        "--clients",
        "6",
        "--rounds",
        // A round takes a tenth of a second, and the kill finds its process in some more.
        "60",
        "--data",
        "zfl:digits",
    ];
    let said = on_slurm("4", &[&flags[..], &["--epochs", "2"]].concat());
    for wanted in [
        "killed the step on the last node",
        "lost: node 2 (n3), with 2 devices, 4 to 5",
        "60 of 60 completed",
    ] {
        assert!(said.out.contains(wanted), "{wanted} is missing: {said:?}");
    }
    let (_, left) = said
        .out
        .split_once("left:\n")
        .expect("job.sh tells what is left");
    assert_eq!(left, "links:\n", "{said:?}");
}
