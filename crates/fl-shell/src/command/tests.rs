use super::*;
use std::string::ToString;

fn run(line: &str) -> Run {
    match parse(line) {
        Ok(Command::Run(run)) => run,
        other => panic!("{line:?} gave {other:?}"),
    }
}

fn refusal(line: &str) -> std::string::String {
    parse(line)
        .expect_err("the line should be refused")
        .to_string()
}

#[test]
fn words_may_be_apart() {
    assert_eq!(parse("   "), Ok(Command::Nothing));
    assert_eq!(parse("  help "), Ok(Command::Help));
    assert_eq!(parse("crash  stack"), Ok(Command::Crash(Crash::Stack)));
    assert_eq!(parse("selftest"), Ok(Command::Selftest));
}

#[test]
fn hog_takes_an_amount_or_all() {
    assert_eq!(parse("hog all"), Ok(Command::Hog(Hog::All)));
    assert_eq!(parse("hog 0"), Ok(Command::Hog(Hog::Kib(0))));
    assert_eq!(parse("hog 4194303"), Ok(Command::Hog(Hog::Kib(4_194_303))));
    assert_eq!(refusal("hog"), "usage: hog <KiB>|all");
    for word in ["-1", "4294967296", "1k", "ALL"] {
        assert!(refusal(&std::format!("hog {word}")).starts_with("unexpected '"));
    }
    assert!(refusal("hog 1 2").starts_with("unexpected '2'; usage: hog <KiB>|all"));
}

#[test]
fn run_takes_its_keys_in_any_order() {
    let run = run("run 10.0.2.15 client=7 address=127.0.0.1:5001 server=10.0.2.2:8080 mask=16");
    assert_eq!(run.ip, Ipv4Addr::new(10, 0, 2, 15));
    assert_eq!(run.server, "10.0.2.2:8080".parse().unwrap());
    assert_eq!(run.client, Some(7));
    assert_eq!(run.address, Some("127.0.0.1:5001".parse().unwrap()));
    assert_eq!((run.mask, run.gateway), (16, None));
}

#[test]
fn a_secret_is_taken_and_never_shown() {
    let line = "run 10.0.0.2 server=10.0.0.1:80 secret=correct-horse-battery";
    assert_eq!(run(line).secret, "correct-horse-battery".parse().ok());
    assert_eq!(run("run 10.0.0.2 server=10.0.0.1:80").secret, None);
    let refused = refusal("run 10.0.0.2 server=10.0.0.1:80 secret=hunter2");
    assert!(
        refused.starts_with("secret '...' is not 16 to 32 letters"),
        "{refused}"
    );
    let twice = refusal(&std::format!("{line} secret=correct-horse-battery"));
    assert!(twice.starts_with("secret is given twice"), "{twice}");
}

#[test]
fn the_mask_is_24_unless_given() {
    assert_eq!(run("run 10.0.0.2 server=10.0.0.1:80").mask, 24);
}

#[test]
fn icount_is_a_shift_that_qemu_takes() {
    assert_eq!(run("run 10.0.0.2 server=10.0.0.1:80").icount, None);
    assert_eq!(
        run("run 10.0.0.2 server=10.0.0.1:80 icount=0").icount,
        Some(0)
    );
    assert_eq!(
        run("run 10.0.0.2 server=10.0.0.1:80 icount=10").icount,
        Some(10)
    );
    for shift in ["11", "-1", "256", "auto", ""] {
        let refused = refusal(&std::format!(
            "run 10.0.0.2 server=10.0.0.1:80 icount={shift}"
        ));
        assert!(refused.starts_with(&std::format!("icount '{shift}' is not a shift, 0 to 10")));
    }
}

#[test]
fn a_server_elsewhere_needs_a_gateway_that_is_near() {
    assert!(refusal("run 10.0.0.2 server=10.0.1.1:80").contains("give gateway=<ip>"));
    assert!(refusal("run 10.0.0.2 server=10.0.1.1:80 gateway=10.0.2.1").contains("outside"));
    let run = run("run 10.0.0.2 server=10.0.1.1:80 gateway=10.0.0.1");
    assert_eq!(run.gateway, Some(Ipv4Addr::new(10, 0, 0, 1)));
}

#[test]
fn a_refusal_says_what_is_expected() {
    assert_eq!(refusal("dance"), "no command 'dance'; try 'help'");
    assert!(refusal("run").starts_with("<ip> is missing; usage: run <ip> server="));
    assert!(refusal("run 10.0.0.2").starts_with("server=<ip>:<port> is missing"));
    assert!(refusal("run 10.0.0.256 server=1.1.1.1:1").starts_with("<ip> '10.0.0.256' is not an"));
    assert!(refusal("run 10.0.0.2 server=10.0.0.1").contains("is not <ip>:<port>"));
    assert!(refusal("run 10.0.0.2 server=10.0.0.1:80 client=x").starts_with("client 'x' is not"));
    assert!(refusal("run 10.0.0.2 server=10.0.0.1:80 mask=31").starts_with("mask '31' is not"));
    assert!(refusal("run 10.0.0.2 server=10.0.0.1:80 speed=9").starts_with("unexpected 'speed=9'"));
    assert!(refusal("run 10.0.0.2 client=1 client=2").starts_with("client is given twice"));
    assert!(refusal("stat now").starts_with("unexpected 'now'"));
    assert!(refusal("selftest twice").starts_with("unexpected 'twice'; usage: selftest"));
    assert!(refusal("crash boat").starts_with("unexpected 'boat'"));
}
