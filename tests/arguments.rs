//! Nonsense is refused before anything starts: status 2, a message that says what to change, and no
//! run directory.

mod support;

use std::fs;
use std::path::Path;
use support::{Said, finish, folder, root, zfl};

/// Runs `zfl run` with these flags and a folder for results, which must stay away.
#[track_caller]
fn refused(flags: &[&str], advice: &str) {
    let temp = folder();
    let out = temp.path().join("run");
    let said = finish(zfl().arg("run").args(flags).arg("--out").arg(&out));
    assert_eq!(said.status, Some(2), "{flags:?}: {said:?}");
    assert!(
        said.err.contains(advice),
        "{flags:?}: no {advice:?} in {said:?}"
    );
    assert!(!out.exists(), "{flags:?} left a run directory");
}

#[test]
fn zero_of_anything() {
    for flag in [
        "--clients",
        "--rounds",
        "--epochs",
        "--batch-size",
        "--clients-per-round",
    ] {
        refused(&[flag, "0"], "give at least 1");
    }
    refused(&["--hidden", "16,0"], "give at least 1");
    refused(&["--quorum", "0"], "give at least 1");
}

#[test]
fn what_is_no_number() {
    refused(&["--clients", "-1"], "unexpected argument");
    refused(&["--clients", "many"], "whole number");
    refused(&["--lr", "nan"], "above 0");
    refused(&["--lr", "0"], "above 0");
    refused(&["--learning-rate", "0"], "above 0");
    refused(&["--local-epochs", "0"], "give at least 1");
    refused(&["--deadline", "0"], "above 0");
    refused(&["--seed", "x"], "whole number");
    refused(&["--seed", "18446744073709551615"], "whole number");
}

/// The original's two commands: a short flag is held to what its long name is held to.
#[test]
fn nonsense_for_server_and_client() {
    for (command, advice) in [
        ("server -r 0 -c 1", "give at least 1"),
        ("server -r 1 -c 0", "give at least 1"),
        ("server -r 1 -c 5 --clients 4", "lower --clients-per-round"),
        ("server -r 1 -c 60001", "lower --clients"),
        ("server -r 1", "--clients-per-round <N>"),
        ("server -r 1 -c 1 --watchdog 60", "unexpected argument"),
        (
            "server -r 1 -c 1 --dashboard here",
            "here has no port: give it behind a colon, such as 127.0.0.1:8080, or off",
        ),
        ("client -c 0 -e 1 -b 1", "give at least 1"),
        ("client -c 1 -e 0 -b 1", "give at least 1"),
        ("client -c 1 -e 1 -b 0", "give at least 1"),
        ("client -c 1 -e 1", "--batch-size <N>"),
        (
            "client -c 1 -e 1 -b 1 --server nowhere",
            "nowhere has no port",
        ),
        (
            "client -c 1 -e 1 -b 1 --server localhost:0",
            "the port that the server has printed",
        ),
        (
            "server -r 1 -c 1 --listen ::1:80",
            "into brackets: [::1]:8080",
        ),
        (
            "server -r 1 -c 1 --listen :70000",
            "a number from 0 to 65535",
        ),
    ] {
        let temp = folder();
        let out = temp.path().join("run");
        let words = command.split(' ');
        let said = finish(zfl().args(words).arg("--out").arg(&out));
        assert_eq!(said.status, Some(2), "{command}: {said:?}");
        assert!(
            said.err.contains(advice),
            "{command}: no {advice:?} in {said:?}"
        );
        assert!(!out.exists(), "{command} left a folder");
    }
}

#[test]
fn more_clients_than_there_are() {
    refused(
        &["--clients", "4", "--clients-per-round", "5"],
        "--clients-per-round",
    );
    refused(&["--clients", "4", "--quorum", "5"], "--quorum");
}

#[test]
fn a_data_set_too_small() {
    refused(&["--clients", "60001"], "lower --clients");
    refused(
        &["--clients", "60", "--examples", "1001"],
        "lower --examples to 1000",
    );
}

#[test]
fn networks_out_of_bounds() {
    refused(&["--hidden", "100000", "--body", "native"], "--hidden");
    refused(&["--hidden", "60000,60000", "--body", "native"], "--hidden");
    refused(
        &["--hidden", "1,1,1,1,1,1,1,1,1,1", "--body", "native"],
        "--hidden",
    );
}

#[test]
fn what_does_not_fit_the_board() {
    let board = fs::read_to_string(root().join("boards/microvm/board.toml")).unwrap();
    let memory = board
        .lines()
        .find(|line| line.starts_with("memory_mib"))
        .unwrap();
    let tiny = folder();
    let path = tiny.path().join("board.toml");
    fs::write(&path, board.replace(memory, "memory_mib = 3")).unwrap();
    let path = path.to_str().unwrap();
    refused(
        &["--board", path, "--clients", "2", "--examples", "3000"],
        "MiB on a device",
    );
    refused(
        &["--board", path, "--clients", "2", "--hidden", "500"],
        "MiB on a device",
    );
}

/// QEMU would exit with status 1 for each device, one after the other.
#[test]
fn a_memory_that_no_machine_has() {
    for (board, memory_mib, advice) in [
        ("microvm", 4_000_000, "board microvm can use 2048"),
        ("q35", 2049, "board q35 can use 2048"),
        ("qemu_x86", 64, "board qemu_x86 can use 15"),
        ("qemu_x86", 14, "board qemu_x86 needs 15"),
    ] {
        let file = format!(
            "[[fleet]]\ncount = 1\nexamples = 60\nboard = \"{board}\"\nmemory_mib = {memory_mib}\n"
        );
        refused_over(&file, &["--dry-run"], advice);
    }
}

#[test]
fn boards_that_do_not_fit_the_body() {
    refused(&["--board", "toaster"], "microvm");
    refused(&["--body", "native", "--board", "q35"], "leave --board out");
    refused(
        &["--body", "native", "--network", "user"],
        "leave --network out",
    );
    refused(&["--body", "qemu"], "possible values");
}

/// A flag that would change nothing is refused, as its siblings are.
#[test]
fn flags_that_do_nothing() {
    let native = ["--body", "native"];
    let with = |more: &[&'static str]| [&native[..], more].concat();
    refused(&with(&["--time", "icount"]), "take --time estimate");
    refused(&with(&["--reboot"]), "--crash");
    refused(&["--reboot", "--crash", "0"], "--crash");
    refused(
        &["--time", "host", "--mips", "125"],
        "leave one of them out",
    );
}

#[test]
fn captures_of_nobody() {
    refused(
        &["--body", "bare", "--clients", "2", "--pcap", "99"],
        "device 99",
    );
}

#[test]
fn a_full_screen_without_a_terminal() {
    refused(&["--tui"], "--tui needs a terminal");
    refused(&["--tui", "--json"], "cannot be used with");
}

#[test]
fn what_is_no_token() {
    for flag in ["--dashboard-token=hunter2", "--dashboard-token="] {
        refused(&[flag], "--dashboard-token: take 16 to 256 letters");
    }
    refused(
        &["--dashboard-token", "--dashboard", "off"],
        "leave one of them out",
    );
    let temp = folder();
    let out = temp.path().join("run");
    let said = finish(
        zfl()
            .env("ZFL_DASHBOARD_TOKEN", "hunter2 hunter2 hunter2")
            .arg("run")
            .arg("--out")
            .arg(&out),
    );
    assert_eq!(said.status, Some(2), "{said:?}");
    assert!(
        said.err.contains("ZFL_DASHBOARD_TOKEN: take 16"),
        "{said:?}"
    );
    assert!(!said.err.contains("hunter2") && !out.exists(), "{said:?}");
}

#[test]
fn a_token_where_there_is_nothing_to_control() {
    let runs = folder();
    fs::write(runs.path().join("config.toml"), "").unwrap();
    let view = zfl()
        .arg("view")
        .arg(runs.path())
        .arg("--dashboard-token")
        .output();
    let view = view.unwrap();
    assert_eq!(view.status.code(), Some(2));
    let said = String::from_utf8_lossy(&view.stderr);
    assert!(said.contains("there is nothing to control"), "{said}");
}

#[test]
fn results_that_are_there_already() {
    let out = folder();
    fs::write(out.path().join("summary.json"), "mine").unwrap();
    let said = finish(
        zfl()
            .args(["run", "--body", "native", "--out"])
            .arg(out.path()),
    );
    assert_eq!(said.status, Some(2), "{said:?}");
    assert!(said.err.contains("--out"), "{said:?}");
    assert_eq!(
        fs::read_to_string(out.path().join("summary.json")).unwrap(),
        "mine"
    );
}

fn run_on(data: &std::path::Path) -> Said {
    finish(zfl().args(["run", "--body", "native", "--data"]).arg(data))
}

#[test]
fn missing_data_are_named() {
    let data = folder();
    let said = run_on(data.path());
    assert_eq!(said.status, Some(2), "{said:?}");
    assert!(said.err.contains("train-images-idx3-ubyte"), "{said:?}");
    assert!(said.err.contains("--data"), "{said:?}");
}

#[test]
fn truncated_data_are_named_with_their_checksum() {
    let data = folder();
    for file in fs::read_dir(root().join("data/mnist")).unwrap().flatten() {
        if file.file_type().unwrap().is_file() {
            fs::copy(file.path(), data.path().join(file.file_name())).unwrap();
        }
    }
    let labels = "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5";
    let sums = format!("{labels}  train-labels-idx1-ubyte\n");
    fs::write(data.path().join("SHA256SUMS"), sums).unwrap();
    let path = data.path().join("train-labels-idx1-ubyte.gz");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let said = run_on(data.path());
    assert_eq!(said.status, Some(2), "{said:?}");
    assert!(said.err.contains("train-labels-idx1-ubyte.gz"), "{said:?}");
    assert!(said.err.contains(labels), "{said:?}");
}

/// A folder with two images of this size and two labels, for training and for testing.
fn images_of(side: u16) -> tempfile::TempDir {
    let data = folder();
    let [high, low] = side.to_be_bytes();
    let mut images = vec![0, 0, 8, 3, 0, 0, 0, 2, 0, 0, high, low, 0, 0, high, low];
    images.resize(16 + 2 * usize::from(side).pow(2), 7);
    for half in ["train", "t10k"] {
        let file = |name: &str| data.path().join(format!("{half}-{name}-ubyte"));
        fs::write(file("images-idx3"), &images).unwrap();
        fs::write(file("labels-idx1"), [0, 0, 8, 1, 0, 0, 0, 2, 0, 1]).unwrap();
    }
    data
}

/// No flag makes images smaller.
#[test]
fn images_that_are_too_wide_for_any_model() {
    let (wide, fits) = (images_of(260), images_of(255));
    for command in [
        "run --body native --clients 1 --dry-run",
        "server -r 1 -c 1",
    ] {
        let temp = folder();
        let mut zfl = zfl();
        zfl.args(command.split(' ')).arg("--data").arg(wide.path());
        let said = finish(zfl.arg("--out").arg(temp.path().join("run")));
        assert_eq!(said.status, Some(2), "{said:?}");
        let words = "the images have 67600 pixels, and a model has at most 65535 inputs";
        assert!(
            said.err.contains(words) && !said.err.contains("--hidden"),
            "{said:?}"
        );
    }
    let said = finish(
        zfl()
            .args([
                "run",
                "--body",
                "native",
                "--clients",
                "1",
                "--dry-run",
                "--data",
            ])
            .arg(fits.path()),
    );
    assert_eq!(said.status, Some(0), "{said:?}");
}

#[test]
fn a_dry_run_tells_all_and_starts_nothing() {
    let temp = folder();
    let out = temp.path().join("run");
    let said = finish(
        zfl()
            .args([
                "run",
                "--dry-run",
                "--body",
                "bare",
                "--clients",
                "7",
                "--out",
            ])
            .arg(&out),
    );
    assert_eq!(said.status, Some(0), "{said:?}");
    for line in [
        "body = \"bare\"",
        "board = \"microvm\"",
        "clients = 7",
        "clients_per_round = 7",
    ] {
        assert!(
            said.out.lines().any(|l| l == line),
            "no {line:?} in {said:?}"
        );
    }
    assert!(!out.exists());
}

#[test]
fn a_partition_is_named_with_its_parameters() {
    let flags = "--body native --clients 8 --partition dirichlet --partition-arg alpha=0.3 --partition-arg \
                 self_balancing=false";
    let said = resolved("", &flags.split(' ').collect::<Vec<_>>());
    let table = "[partition]\nname = \"dirichlet\"\nalpha = 0.3\nmin_partition_size = 10\n\
                 self_balancing = 0\n";
    assert!(said.out.contains(table), "{said:?}");
    assert!(said.out.contains("examples_per_client = 1200"), "{said:?}");
    assert!(!said.out.contains("\nexamples = "), "{said:?}");
    let again = resolved(&said.out, &["--partition-arg", "alpha=0.4"]);
    assert!(
        again.out.contains(&table.replace("0.3", "0.4")),
        "{again:?}"
    );
    let iid = resolved(&said.out, &["--partition", "iid"]);
    assert!(
        iid.out.contains("[partition]\nname = \"iid\"\n\n"),
        "{iid:?}"
    );
}

#[test]
fn partitions_that_cannot_be() {
    refused(&["--partition", "shards"], "possible values");
    refused(&["--partition-arg", "alpha"], "alpha=0.5");
    refused(&["--partition-arg", "alpha=1"], "has no parameters");
    let dirichlet = |arg: &str, advice: &str| {
        let flags = [
            "--body",
            "native",
            "--partition",
            "dirichlet",
            "--partition-arg",
            arg,
        ];
        refused(&flags, advice);
    };
    dirichlet("beta=1", "take alpha or min_partition_size");
    dirichlet("alpha=0", "from 0.000001");
    dirichlet("alpha=nan", "from 0.000001");
    dirichlet("alpha=0.000001", "raise alpha");
    dirichlet("min_partition_size=2000", "take fewer clients");
    let file = "[[fleet]]\ncount = 2\nbody = \"native\"\nexamples = 100\n";
    refused_over(file, &["--partition", "dirichlet"], "leave it out");
}

/// The kinds of devices, which `cargo xtask run` reads from a dry run.
#[test]
fn a_dry_run_tells_the_body_of_every_group() {
    let temp = folder();
    let file = temp.path().join("bodies.toml");
    let text = "[[fleet]]\nname = \"a\"\ncount = 1\nbody = \"native\"\n\
                [[fleet]]\nname = \"b\"\ncount = 1\nboard = \"q35\"\n";
    fs::write(&file, text).unwrap();
    let said = finish(zfl().args(["run", "--dry-run"]).arg(&file));
    assert_eq!(said.status, Some(0), "{said:?}");
    let groups: Vec<_> = said.out.split("[[fleet]]").skip(1).collect();
    assert_eq!(groups.len(), 2, "{said:?}");
    assert!(groups[0].contains("body = \"native\"") && !groups[0].contains("board = "));
    assert!(
        groups[1].contains("body = \"bare\"\nboard = \"q35\"\n"),
        "{said:?}"
    );
}

/// Resolves this file and these flags in a dry run.
#[track_caller]
fn resolved(file: &str, flags: &[&str]) -> Said {
    let temp = folder();
    let path = temp.path().join("experiment.toml");
    fs::write(&path, file).unwrap();
    let said = finish(zfl().args(["run", "--dry-run"]).arg(&path).args(flags));
    assert_eq!(said.status, Some(0), "{flags:?} over {file:?}: {said:?}");
    said
}

/// Text as in the `config.toml` of a run: a line for each group.
#[test]
fn a_flag_goes_before_the_line_of_a_group() {
    let file = "[[fleet]]\ncount = 2\nbody = \"native\"\nexamples = 1200\nlocal_epochs = 3\n\
                batch_size = 7\n";
    let flags = ["--examples", "300", "--epochs", "4", "--batch-size", "8"];
    let said = resolved(file, &flags);
    for line in [
        "examples_per_client = 300",
        "examples = 300",
        "local_epochs = 4",
        "batch_size = 8",
    ] {
        assert!(said.out.lines().any(|l| l == line), "no {line} in {said:?}");
    }
    for line in ["local_epochs = 3", "batch_size = 7"] {
        assert!(!said.out.contains(line), "{line} in {said:?}");
    }
    let counted = "time = \"icount\"\n[[fleet]]\ncount = 1\nboard = \"q35\"\nmips = 500\n";
    let said = resolved(counted, &["--time", "host"]);
    assert!(
        !said.out.contains("mips") && !said.out.contains("icount"),
        "{said:?}"
    );
    // The same fleet without emulation, of which nobody counts instructions.
    let said = resolved(counted, &["--body", "native"]);
    assert!(!said.out.contains("icount"), "{said:?}");
}

/// Every key of a file is used or refused.
#[test]
fn keys_that_a_run_writes_down_are_read() {
    let native = "body = \"native\"\nclients = 2\n";
    let temp = folder();
    let path = temp.path().join("experiment.toml");
    fs::write(&path, format!("{native}layers = [784, 64, 10]\n")).unwrap();
    refused(&[path.to_str().unwrap()], "as `hidden`");
    let agreed = format!("{native}layers = [784, 16, 10]\n");
    assert_eq!(resolved(&agreed, &[]).err, "");
    let said = resolved(&agreed, &["--hidden", "64"]);
    assert!(said.out.contains("layers = [784, 64, 10]"), "{said:?}");

    let said = resolved(&format!("{native}zfl_version = \"9.9\"\n"), &[]);
    assert!(said.err.starts_with("the file is of zfl 9.9"), "{said:?}");
    assert_eq!(said.err.lines().count(), 1, "{said:?}");

    fs::write(&path, format!("{native}out = \"elsewhere\"\n")).unwrap();
    let goes_to = |flags: &[&str]| {
        let said = finish(zfl().args(["run", "--dry-run"]).arg(&path).args(flags));
        let mut lines = said.out.lines();
        let place = lines.find_map(|line| line.strip_prefix("# The results would go to "));
        // From where one stands.
        let here = root().canonicalize().unwrap();
        here.join(place.expect("it says where"))
    };
    let elsewhere = temp.path().join("elsewhere");
    assert_eq!(goes_to(&[]), elsewhere);
    let other = temp.path().join("other");
    let other = other.to_str().unwrap();
    assert_eq!(goes_to(&["--out", other]), Path::new(other));
}

/// Allows using the `config.toml` of a run on another machine.
#[test]
fn a_configuration_names_no_folder_that_is_where_it_always_is() {
    let native = ["--body", "native", "--clients", "2"];
    let plain = resolved("", &native);
    assert!(
        !plain.out.contains("data = ") && !plain.out.contains("out = "),
        "{plain:?}"
    );
    let named = resolved(
        "",
        &[&native[..], &["--data", "data/../data/mnist"]].concat(),
    );
    assert!(!named.out.contains("data = "), "{named:?}");
    let other = folder();
    for file in fs::read_dir(root().join("data/mnist")).unwrap().flatten() {
        std::os::unix::fs::symlink(file.path(), other.path().join(file.file_name())).unwrap();
    }
    let indirect = other
        .path()
        .join("../")
        .join(other.path().file_name().unwrap());
    let named = resolved(
        "",
        &[&native[..], &["--data", indirect.to_str().unwrap()]].concat(),
    );
    let canonical = other.path().canonicalize().unwrap();
    let line = format!("data = \"{}\"", canonical.display());
    assert!(
        named.out.lines().any(|l| l == line),
        "no {line} in {named:?}"
    );
}

/// Wherever zfl is called from, and in the `config.toml` as well.
#[test]
fn a_board_and_a_link_by_path_are_meant_from_the_folder_of_the_file() {
    let temp = folder();
    let board = fs::read_to_string(root().join("boards/q35/board.toml")).unwrap();
    fs::create_dir(temp.path().join("mine")).unwrap();
    fs::write(temp.path().join("mine/board.toml"), board).unwrap();
    fs::copy(
        root().join("links/wifi.toml"),
        temp.path().join("mine/radio.toml"),
    )
    .unwrap();
    let file = temp.path().join("experiment.toml");
    let text = "[[fleet]]\ncount = 1\nboard = \"./mine\"\nlink = \"mine/radio.toml\"\n";
    fs::write(&file, text).unwrap();
    let said = finish(zfl().args(["run", "--dry-run"]).arg(&file));
    assert_eq!(said.status, Some(0), "{said:?}");
    let mine = temp.path().join("mine");
    for line in [
        format!("board = \"{}\"", mine.display()),
        format!("link = \"{}\"", mine.join("radio.toml").display()),
    ] {
        assert!(said.out.lines().any(|l| l == line), "no {line} in {said:?}");
    }
    fs::write(temp.path().join("config.toml"), &said.out).unwrap();
    let again = finish(
        zfl()
            .args(["run", "--dry-run"])
            .arg(temp.path().join("config.toml")),
    );
    assert_eq!(again.out, said.out, "{again:?}");
}

/// The number behind a key of a dry run.
#[track_caller]
fn number(said: &Said, key: &str) -> f64 {
    let head = format!("{key} = ");
    let line = said.out.lines().find_map(|line| line.strip_prefix(&head));
    line.unwrap_or_else(|| panic!("no {key} in {said:?}"))
        .parse()
        .unwrap()
}

/// 940 kB at 26 kbit/s take 290 s and more: whoever names the link need not know.
#[test]
fn deadlines_that_nobody_gave_fit_the_link() {
    let said = resolved(
        "",
        &["--body", "bare", "--clients", "2", "--link", "nb-iot"],
    );
    assert!(number(&said, "ready_deadline_s") > 600.0, "{said:?}");
    assert_eq!(number(&said, "round_deadline_s"), 120.0);
    assert!(
        said.err
            .starts_with("over nb-iot the data of a device take about 3")
            && said.err.contains("--ready-deadline")
            && said.err.lines().count() == 1,
        "{said:?}"
    );
    let again = resolved(said.out.as_str(), &[]);
    assert_eq!(again.err, "", "it is in the configuration now");
    assert_eq!(
        number(&again, "ready_deadline_s"),
        number(&said, "ready_deadline_s")
    );

    // Here the model takes its time, too, and the watchdog must not end who sends it.
    let said = resolved(
        "",
        &["--body", "bare", "--clients", "2", "--link", "lorawan-like"],
    );
    assert!(number(&said, "round_deadline_s") > 400.0, "{said:?}");
    assert!(number(&said, "watchdog_s") > 160.0, "{said:?}");

    let said = resolved("", &["--body", "bare", "--clients", "2", "--link", "wifi"]);
    assert_eq!(
        (number(&said, "ready_deadline_s"), said.err.as_str()),
        (120.0, "")
    );
}

/// A deadline that nobody can meet is refused.
#[test]
fn deadlines_that_no_device_can_meet() {
    let nb_iot = ["--body", "bare", "--clients", "2", "--link", "nb-iot"];
    let with = |more: &[&'static str]| [&nb_iot[..], more].concat();
    refused(
        &with(&["--ready-deadline", "120"]),
        "the data of client 0 take 308 s over nb-iot, and --ready-deadline is 120 s: give \
         --ready-deadline ",
    );
    refused(&with(&["--ready-deadline", "120"]), " or --examples ");
    refused(
        &with(&["--deadline", "20"]),
        "model and update of client 0 take 27 s over nb-iot",
    );
    let lossy = [
        "--body",
        "bare",
        "--clients",
        "2",
        "--loss",
        "100%",
        "--ready-deadline",
        "60",
    ];
    refused(&lossy, "more than a day over its link");
}

/// Some devices that never make it are an experiment; it is said before it begins.
#[test]
fn deadlines_that_some_devices_cannot_meet() {
    let file = "ready_deadline_s = 120\nround_deadline_s = 20\n\
                [[fleet]]\ncount = 3\nbody = \"bare\"\n\
                [[fleet]]\ncount = 1\nbody = \"bare\"\nlink = \"nb-iot\"\n";
    let said = resolved(file, &[]);
    for line in [
        "and --ready-deadline is 120 s: 1 of 4 devices are too slow for it",
        "model and update of client 3 take 27 s over nb-iot, and --deadline is 20 s: 1 of 4",
    ] {
        assert!(said.err.contains(line), "no {line:?} in {said:?}");
    }
    refused_over(file, &["--quorum", "4"], "give --ready-deadline");
    // Late updates are not lost then.
    let said = resolved(file, &["--use-late"]);
    assert!(!said.err.contains("--deadline is 20 s: 1 of 4"), "{said:?}");
}

/// Refused over a file.
#[track_caller]
fn refused_over(file: &str, flags: &[&str], advice: &str) {
    let temp = folder();
    let path = temp.path().join("experiment.toml");
    fs::write(&path, file).unwrap();
    refused(&[&[path.to_str().unwrap()], flags].concat(), advice);
}

const BARE_ON_Q35: &str = "body = \"bare\"\nboard = \"q35\"\n";

/// Whoever names a board gets it, wherever its body is named.
#[test]
fn a_board_stays_with_a_body_that_it_boots() {
    for (file, flags) in [
        ("board = \"q35\"", &["--body", "bare"][..]),
        ("board = \"q35\"", &["--body", "auto"]),
        ("[[fleet]]\ncount = 2\nboard = \"q35\"", &["--body", "bare"]),
        ("board = \"q35\"\n[[fleet]]\ncount = 2", &["--body", "bare"]),
        (
            "body = \"zephyr\"\n[[fleet]]\ncount = 2\nboard = \"q35\"",
            &["--body", "bare"],
        ),
        (
            "board = \"q35\"\n[[fleet]]\ncount = 2\nbody = \"bare\"",
            &[],
        ),
        (
            "body = \"zephyr\"\n[[fleet]]\ncount = 2\nboard = \"q35\"",
            &[],
        ),
    ] {
        let said = resolved(file, flags);
        let groups: Vec<_> = said.out.split("[[fleet]]").skip(1).collect();
        assert!(
            groups.len() == 1 && groups[0].contains(BARE_ON_Q35),
            "{flags:?} over {file:?}: {said:?}"
        );
        assert_eq!(said.err, "", "{flags:?} over {file:?}");
    }
}

#[test]
fn a_flag_that_contradicts_the_file_goes_first_and_says_so() {
    let zephyr = "body = \"zephyr\"\nboard = \"qemu_x86\"\n";
    let group = "[[fleet]]\ncount = 2\nboard = \"qemu_x86\"\n";
    for (file, flag, expected, note) in [
        (
            zephyr,
            ["--body", "bare"],
            "body = \"bare\"\nboard = \"microvm\"\n",
            "--body bare: microvm instead of the file's board qemu_x86, which boots zephyr\n",
        ),
        (
            &[group, group].concat(),
            ["--body", "bare"],
            "body = \"bare\"\nboard = \"microvm\"\n",
            "--body bare: microvm instead of the file's board qemu_x86, which boots zephyr\n",
        ),
        (
            "board = \"q35\"",
            ["--body", "zephyr"],
            zephyr,
            "--body zephyr: qemu_x86 instead of the file's board q35, which boots bare\n",
        ),
        (
            zephyr,
            ["--board", "q35"],
            BARE_ON_Q35,
            "--board q35: bare, which it boots, instead of the file's body zephyr\n",
        ),
    ] {
        let said = resolved(file, &flag);
        let mut groups = said.out.split("[[fleet]]").skip(1);
        assert!(
            groups.all(|group| group.contains(expected)),
            "{flag:?} over {file:?}: {said:?}"
        );
        assert_eq!(said.err, note, "{flag:?} over {file:?}");
    }
    // Without emulation there is no board at all, and nobody expects one.
    let said = resolved("board = \"q35\"", &["--body", "native"]);
    assert!(!said.out.contains("board = ") && said.err.is_empty());
}

#[test]
fn a_board_that_is_not_there_is_named_whatever_the_body() {
    let temp = folder();
    let path = temp.path().join("experiment.toml");
    fs::write(&path, "board = \"toaster\"").unwrap();
    refused(&[path.to_str().unwrap(), "--body", "bare"], "board toaster");
}

#[test]
fn help_is_a_command_too_and_a_shell_can_complete() {
    for (arguments, part) in [
        ("help", "Commands:"),
        ("help run", "Examples:"),
        ("completions bash", "_zfl()"),
        ("completions zsh", "#compdef zfl"),
        ("completions fish", "complete -c zfl"),
    ] {
        let said = finish(zfl().args(arguments.split(' ')));
        assert_eq!(said.status, Some(0), "{arguments}: {said:?}");
        assert!(said.out.contains(part), "{arguments}: {said:?}");
    }
    let said = finish(zfl().args(["completions", "tcl"]));
    assert_eq!(said.status, Some(2), "{said:?}");
}

#[test]
fn help_has_examples() {
    let said = finish(zfl().args(["run", "--help"]));
    assert_eq!(said.status, Some(0), "{said:?}");
    assert!(said.out.contains("Examples:"), "{said:?}");
    let said = finish(&mut zfl());
    assert_eq!(said.status, Some(2), "no command at all: {said:?}");
}

#[test]
fn kvm_for_devices_that_it_cannot_run() {
    let kvm = |more: &[&'static str]| [&["--accel", "kvm", "--clients", "2"], more].concat();
    refused(&kvm(&["--body", "native"]), "leave --accel out");
    refused(&["--accel", "xen"], "possible values: tcg, kvm");
}
