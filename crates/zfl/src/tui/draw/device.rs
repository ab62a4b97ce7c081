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
use zfl_run_dir::metric::{Id, Unit};

const ROUND_S: Id = Id::of("round_s");
const LOSS: Id = Id::of("loss");

/// Panel of the selected device.
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
            Span::from(format!(" {name:<19}")).dark_gray(),
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
fn known(device: &Device) -> Vec<(String, String)> {
    let facts = [("board", &device.board), ("link", &device.link)];
    let facts = facts
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), clean(value.as_deref()?))));
    let metrics = Id::on_screen().filter_map(|id| {
        let metric = id.metric();
        let value = device.totals.now(id)?;
        Some((metric.label.to_lowercase(), text(metric.unit, value)))
    });
    facts.chain(metrics).collect()
}

/// A value for people.
fn text(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Count => quantity(value as u64),
        Unit::Nats => format!("{value:.4}"),
        Unit::Seconds => format!("{value:.2} s"),
        Unit::Milliseconds => format!("{value:.0} ms"),
        Unit::Microseconds => format!("{:.1} ms", value / 1e3),
        Unit::Bytes => bytes(value as u64),
        Unit::Joules => format!("{value:.3} J"),
    }
}

fn history(row: &HistoryRow) -> Line<'static> {
    let told = |id: Id| row.values.get(id);
    let time = told(ROUND_S).map_or(String::new(), |s| format!("{s:.2} s"));
    let loss = told(LOSS).map_or(String::new(), |loss| format!("{loss:.4}"));
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
