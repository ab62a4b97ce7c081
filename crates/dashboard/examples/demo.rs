//! Serves a scripted run that goes on by itself, to look at or to be scraped:
//! `cargo run -p zfl-dashboard --example demo [CLIENTS [SECONDS]]`; 50 clients for 10 minutes unless
//! told otherwise.

#[path = "../tests/support/mod.rs"]
mod support;

use anyhow::Result;
use std::net::TcpListener;
use std::time::{Duration, Instant};
use support::Script;
use zfl_dashboard::Dashboard;

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).map(|n| n.parse::<u32>());
    let clients = arguments.next().transpose()?.unwrap_or(50);
    let seconds = arguments.next().transpose()?.unwrap_or(600);
    let end = Instant::now() + Duration::from_secs(seconds.into());
    let dir = tempfile::tempdir()?;
    let mut script = Script::new(dir.path(), clients, 100);
    let dashboard = Dashboard::new(support::meta(clients, 100), dir.path());
    dashboard.follow()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("http://{}/", listener.local_addr()?);
    tokio::spawn(dashboard.serve(listener)?);
    script.boot();
    for round in 1..=100 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        if Instant::now() > end {
            return Ok(());
        }
        script.round(round);
    }
    script.finish();
    tokio::time::sleep_until(end.into()).await;
    Ok(())
}
