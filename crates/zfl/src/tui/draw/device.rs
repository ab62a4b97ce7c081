//! One device: what is known of it, and its serial lines.

use super::{fleet, panel, title};
use crate::terminal::text::{bytes, clean, quantity};
use crate::tui::app::App;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Stylize;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Wrap};
use zfl_run_dir::fold::{Device, HistoryRow};

/// What is known of the selected device.
pub fn facts(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let name = format!("Device {}", app.selected);
    let Some(device) = app.device() else {
        frame.render_widget(
            Paragraph::new(" no device").block(panel(title(&name))),
            area,
        );
        return;
    };
    let mut lines = vec![state(device)];
    if let Some(reason) = &device.reason {
        lines.push(Line::from(format!(" {}", clean(reason))).yellow());
    }
    lines.extend(known(device).into_iter().map(|(name, value)| {
        Line::from(vec![
            Span::from(format!(" {name:<13}")).dark_gray(),
            Span::from(value),
        ])
    }));
    let room = usize::from(area.height).saturating_sub(lines.len() + 4);
    let rounds = device.history.len().min(room);
    if rounds > 0 {
        lines.push(Line::default());
        lines.push(Line::from(" round outcome    time    loss").bold());
        lines.extend(device.history.iter().rev().take(rounds).map(history));
    }
    let text = Paragraph::new(lines).wrap(Wrap { trim: false });
    frame.render_widget(text.block(panel(title(&name))), area);
}

fn state(device: &Device) -> Line<'static> {
    let letter = fleet::letter(device.state);
    let style = letter.style;
    let mut text = device.state.name().to_owned();
    if let Some(percent) = fleet::percent(device) {
        text += &format!(" {percent} %");
    }
    if device.round > 0 {
        text += &format!(", round {}", device.round);
    }
    Line::from(vec![
        Span::from(" "),
        letter,
        Span::from(" "),
        Span::styled(text, style),
    ])
}

/// The facts that are known, by name.
fn known(device: &Device) -> Vec<(&'static str, String)> {
    let traffic = |number: u64| (number > 0).then(|| bytes(number));
    let size = |number: Option<u32>| number.map(|number| bytes(number.into()));
    let host = device.host_bytes.map(bytes).map(|text| match device.cpu_s {
        Some(cpu_s) => format!("{text}, {cpu_s:.1} s of CPU"),
        None => text,
    });
    let facts = [
        ("board", device.board.as_deref().map(clean)),
        ("link", device.link.as_deref().map(clean)),
        ("boot", device.boot_ms.map(|ms| format!("{ms} ms"))),
        ("training", device.train_us.map(milliseconds)),
        ("round time", device.round_s.map(|s| format!("{s:.2} s"))),
        ("train loss", device.loss.map(|loss| format!("{loss:.4}"))),
        ("instructions", device.instructions.map(quantity)),
        ("heap peak", size(device.heap_peak_bytes)),
        ("stack peak", size(device.stack_peak_bytes)),
        ("retransmits", device.retransmissions.map(|n| n.to_string())),
        ("bytes up", traffic(device.bytes_up)),
        ("bytes down", traffic(device.bytes_down)),
        ("on the host", host),
    ];
    let known = facts
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    known.collect()
}

fn milliseconds(us: u64) -> String {
    format!("{:.1} ms", us as f64 / 1e3)
}

fn history(row: &HistoryRow) -> Line<'static> {
    let time = row.round_s.map_or(String::new(), |s| format!("{s:.2} s"));
    let loss = row.loss.map_or(String::new(), |loss| format!("{loss:.4}"));
    let line = Line::from(format!(
        "{:>6} {:<8}{time:>7} {loss:>7}",
        row.round, row.outcome
    ));
    if row.outcome == "received" {
        line
    } else {
        line.yellow()
    }
}

/// The end of the selected device's serial log.
pub fn serial(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let room = usize::from(area.height.saturating_sub(2));
    let lines = &app.serial.lines;
    let from = lines.len().saturating_sub(room);
    let mut shown: Vec<_> = lines[from..]
        .iter()
        .map(|line| Line::from(line.clone()))
        .collect();
    if shown.is_empty() {
        shown.push(Line::from("nothing yet").dark_gray());
    }
    let name = format!("serial/{}.log", app.selected);
    frame.render_widget(Paragraph::new(shown).block(panel(title(&name))), area);
}
