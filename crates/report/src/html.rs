//! The page.

use crate::draw::Figure;
use crate::group::{Group, differing};
use crate::numbers::{Mean, show};
use crate::run::Run;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeSet;
use std::fmt::Write;
use zfl_run_dir::RoundRecord;
use zfl_run_dir::fold::RunState;

/// Nothing is loaded and nothing runs; the figures and the style are in the page.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; \
                      base-uri 'none'; form-action 'none'";

const STYLE: &str = "
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2328; background: #fff; margin: 0 auto; max-width: 72rem; padding: 1rem 1.2rem 3rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .6rem; border-bottom: 1px solid #d0d7de; padding-bottom: .2rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 30rem), 1fr)); gap: 1.2rem; }
figure { margin: 0; border: 1px solid #d0d7de; border-radius: 8px; padding: .6rem; break-inside: avoid; }
figure img { width: 100%; height: auto; display: block; }
figcaption { font-size: .88rem; color: #424a53; padding: .3rem .2rem 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .3rem .6rem; border-bottom: 1px solid #d0d7de; vertical-align: top; }
th:first-child, td:first-child, .text { text-align: left; }
th { color: #57606a; } tr.differs td { background: #fff8c5; }
code { font: 13px ui-monospace, monospace; overflow-wrap: anywhere; } pre { background: #f6f8fa; border: 1px solid #d0d7de; border-radius: 8px; padding: .6rem .8rem; white-space: pre-wrap; overflow-wrap: anywhere; }
p.note { color: #57606a; margin: .2rem 0 1rem; }
";

/// The whole page.
pub fn page(groups: &[Group], figures: &[Figure], warnings: &[String]) -> String {
    let runs = groups.iter().map(|group| group.runs.len()).sum::<usize>();
    let title = match groups {
        [group] if runs == 1 => group.runs[0].view.name.clone(),
        _ => format!("{runs} runs in {} groups", groups.len()),
    };
    let mut page = begin(&title);
    section(&mut page, "Results", &(results(groups) + &notes(warnings)));
    if let Some(on_devices) = on_devices(groups) {
        section(&mut page, "On the devices", &on_devices);
    }
    if let Some(levels) = levels(groups) {
        section(&mut page, "Levels", &levels);
    }
    section(&mut page, "Figures", &drawings(figures));
    section(&mut page, "Runs", &each_run(groups));
    section(&mut page, "Configuration", &configuration(groups));
    section(&mut page, "To repeat it", &commands(groups));
    page.push_str("</body>\n</html>\n");
    page
}

/// Levels of aggregators of each run that has edges.
fn levels(groups: &[Group]) -> Option<String> {
    let runs = groups.iter().flat_map(|group| &group.runs);
    let rows = runs.flat_map(|run| {
        let name = &run.view.name;
        run.view.levels.iter().map(move |level| {
            let numbers = [level.aggregators, level.below, level.rounds].map(|n| n.to_string());
            let bytes =
                [level.bytes_up, level.bytes_down].map(|n| format!("{:.2}", n as f64 / 1e6));
            let work = [
                format!("{:.3}", level.add_us as f64 / 1e6),
                format!("{:.2}", level.held_bytes as f64 / 1e6),
            ];
            let names = [name.clone(), level.name()];
            names
                .into_iter()
                .chain(numbers)
                .chain(bytes)
                .chain(work)
                .collect::<Vec<_>>()
        })
    });
    let rows: Vec<_> = rows.collect();
    let head = [
        "<run",
        "<level",
        "aggregators",
        "join them",
        "rounds",
        "MB up",
        "MB down",
        "adding up (s)",
        "sums (MB)",
    ];
    let note = "<p class=\"note\">Bytes of the connections of each level in the complete rounds: the lower end of the \
                lowest level are the devices. Adding up is the time in which all of a level added updates up, sums the \
                memory of the one that held most.</p>\n";
    (!rows.is_empty()).then(|| table(&head, &rows) + note)
}

/// The page of a comparison: a table, of which the first `texts` columns are text, and figures.
pub fn comparison(
    head: &[String],
    lines: &[Vec<String>],
    texts: usize,
    figures: &[Figure],
    warnings: &[String],
) -> String {
    let mut page = begin(&format!("{} groups of runs", lines.len()));
    let heads = head.iter().enumerate().map(|(at, name)| match at < texts {
        true => format!("<{name}"),
        false => name.clone(),
    });
    let heads: Vec<String> = heads.collect();
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    section(
        &mut page,
        "Results",
        &(table(&heads, lines) + &notes(warnings)),
    );
    section(&mut page, "Figures", &drawings(figures));
    page.push_str("</body>\n</html>\n");
    page
}

/// A page up to its first section.
fn begin(title: &str) -> String {
    let mut page = String::new();
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title} · zfl</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n\
         <p class=\"note\">Written by zfl {version}. Groups are runs that differ in nothing but their \
         seed; ± is the standard deviation of the sample.</p>\n",
        title = escape(title),
        version = env!("CARGO_PKG_VERSION"),
    );
    page
}

fn section(page: &mut String, title: &str, content: &str) {
    let _ = write!(page, "<section>\n<h2>{title}</h2>\n{content}</section>\n");
}

/// Text, whatever it is.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A table; the columns of which the head begins with `<` are text.
fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = String::from("<div class=\"scroll\"><table>\n<thead><tr>");
    let class = |name: &str| {
        if name.starts_with('<') {
            " class=\"text\""
        } else {
            ""
        }
    };
    for name in head {
        let _ = write!(
            table,
            "<th scope=\"col\"{}>{}</th>",
            class(name),
            escape(name.trim_start_matches('<'))
        );
    }
    table.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        table.push_str("<tr>");
        for (name, cell) in head.iter().zip(row) {
            let _ = write!(table, "<td{}>{}</td>", class(name), escape(cell));
        }
        table.push_str("</tr>\n");
    }
    table.push_str("</tbody>\n</table></div>\n");
    table
}

fn results(groups: &[Group]) -> String {
    let row = |group: &Group| {
        let per_cent = |value: Option<f64>| value.map(|share| 100.0 * share);
        let mega = |bytes: u64| bytes as f64 / 1e6;
        vec![
            group.label.clone(),
            group.runs.len().to_string(),
            show(group.mean(|run| per_cent(run.view.accuracy)), 2),
            show(group.mean(|run| per_cent(run.view.best_accuracy)), 2),
            show(group.mean(|run| run.view.loss), 4),
            show(
                group.mean(|run| Some(f64::from(run.view.rounds_completed))),
                0,
            ),
            show(group.mean(|run| Some(mega(run.view.bytes_up))), 2),
            show(group.mean(|run| Some(mega(run.view.bytes_down))), 2),
            show(
                group.mean(|run| Some(Mean::of(run.trained().map(|round| round.round_s))?.mean)),
                2,
            ),
            show(group.mean(|run| Some(run.view.elapsed_s)), 1),
            show(group.mean(|run| run.view.simulated_s), 1),
            show(group.mean(|run| run.view.energy_j), 1),
            show(group.mean(|run| Some(run.view.faults as f64)), 1),
        ]
    };
    let head = [
        "Group",
        "Runs",
        "Accuracy (%)",
        "Best (%)",
        "Loss (nats)",
        "Rounds",
        "Up (MB)",
        "Down (MB)",
        "Round (s)",
        "Run (s)",
        "Simulated (s)",
        "Energy (J, estimate)",
        "Faults",
    ];
    table(&head, &groups.iter().map(row).collect::<Vec<_>>())
}

/// Accuracies at the last evaluation on devices, if there was any.
fn on_devices(groups: &[Group]) -> Option<String> {
    type Column = fn(&RoundRecord) -> Option<f64>;
    const COLUMNS: [(&str, Column); 11] = [
        ("Mean (%)", |r| r.device_accuracy_mean),
        ("Weighted (%)", |r| r.device_accuracy_weighted_mean),
        ("Worst tenth (%)", |r| r.device_accuracy_worst_decile),
        ("Deviation", |r| r.device_accuracy_deviation),
        ("Least (%)", |r| r.device_accuracy_min),
        ("Quartile (%)", |r| r.device_accuracy_q1),
        ("Median (%)", |r| r.device_accuracy_median),
        ("Quartile (%)", |r| r.device_accuracy_q3),
        ("Greatest (%)", |r| r.device_accuracy_max),
        ("Personal (%)", |r| r.personal_accuracy_mean),
        ("Worst tenth (%)", |r| r.personal_accuracy_worst_decile),
    ];
    let last = |run: &Run, of: Column| run.trained().filter_map(of).last();
    let evaluated = |group: &&Group| group.mean(|run| last(run, COLUMNS[0].1)).is_some();
    let row = |group: &Group| {
        let cell =
            |(_, of): (&str, Column)| show(group.mean(|run| Some(100.0 * last(run, of)?)), 2);
        let cells = COLUMNS.into_iter().map(cell);
        std::iter::once(group.label.clone()).chain(cells).collect()
    };
    let rows: Vec<Vec<String>> = groups.iter().filter(evaluated).map(row).collect();
    let head = COLUMNS.map(|(name, _)| name);
    let head: Vec<&str> = std::iter::once("Group").chain(head).collect();
    let about = "<p class=\"note\">Accuracy of the last model on the examples that devices hold out, over \
                 devices; behind it that of their personal models.</p>\n";
    (!rows.is_empty()).then(|| table(&head, &rows) + about)
}

fn notes(warnings: &[String]) -> String {
    let note = |warning: &String| format!("<p class=\"note\">{}</p>\n", escape(warning));
    warnings.iter().map(note).collect()
}

fn drawings(figures: &[Figure]) -> String {
    let mut html = String::from("<div class=\"figures\">\n");
    for (at, figure) in figures.iter().enumerate() {
        let caption = escape(&figure.caption);
        let image = STANDARD.encode(&figure.svg);
        let _ = writeln!(
            html,
            "<figure id=\"{name}\"><img alt=\"{caption}\" src=\"data:image/svg+xml;base64,{image}\">\
             <figcaption><b>Figure {number}.</b> {caption} <code>figures/{name}</code></figcaption>\
             </figure>",
            name = figure.name,
            number = at + 1,
        );
    }
    html.push_str("</div>\n");
    html
}

fn each_run(groups: &[Group]) -> String {
    let row = |group: &Group, run: &Run| {
        let per_cent =
            |share: Option<f64>| share.map_or("–".into(), |s| format!("{:.2}", 100.0 * s));
        vec![
            run.view.name.clone(),
            group.label.clone(),
            run.seed().map_or("–".into(), |seed| seed.to_string()),
            state(run),
            per_cent(run.view.accuracy),
            run.view
                .loss
                .map_or("–".into(), |loss| format!("{loss:.4}")),
            format!("{} of {}", run.view.rounds_completed, run.view.rounds),
            run.model_sha256
                .as_ref()
                .map_or("–".into(), |sha| sha.chars().take(16).collect()),
            run.versions(),
        ]
    };
    let rows: Vec<_> = groups
        .iter()
        .flat_map(|group| group.runs.iter().map(move |run| row(group, run)))
        .collect();
    let head = [
        "Run",
        "<Group",
        "Seed",
        "<State",
        "Accuracy (%)",
        "Loss (nats)",
        "Rounds",
        "<Model (SHA-256)",
        "<Versions",
    ];
    table(&head, &rows)
}

fn state(run: &Run) -> String {
    let state = match run.view.state {
        RunState::Finished => "finished",
        RunState::Failed => "failed",
        RunState::Running => "under way",
        RunState::Interrupted => "broken off",
    };
    let reason = run.view.reason.iter().map(|reason| format!(": {reason}"));
    let resumed = run.view.resumed_from.iter();
    let resumed = resumed.map(|round| format!(", resumed after round {round}"));
    let controlled = by_hand(run).map(|acts| format!("; changed by remote control: {acts}"));
    std::iter::once(state.to_owned())
        .chain(reason)
        .chain(resumed)
        .chain(controlled)
        .collect()
}

/// Remote control of a run, if there was any.
fn by_hand(run: &Run) -> Option<String> {
    let acts = run.view.by_hand.iter();
    let acts: Vec<String> = acts.map(|(act, count)| format!("{count} {act}")).collect();
    (!acts.is_empty()).then(|| acts.join(", "))
}

/// Every setting, those that differ first and marked.
fn configuration(groups: &[Group]) -> String {
    let differing = differing(groups);
    let names: BTreeSet<&String> = groups
        .iter()
        .flat_map(|group| group.settings.keys())
        .collect();
    let (first, rest): (Vec<&String>, Vec<&String>) = names
        .into_iter()
        .partition(|name| differing.contains(*name));
    let mut html =
        String::from("<div class=\"scroll\"><table>\n<thead><tr><th scope=\"col\">Setting</th>");
    for group in groups {
        let _ = write!(
            html,
            "<th scope=\"col\" class=\"text\">{}</th>",
            escape(&group.label)
        );
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for name in first.into_iter().chain(rest) {
        let class = if differing.contains(name) {
            " class=\"differs\""
        } else {
            ""
        };
        let _ = write!(html, "<tr{class}><td>{}</td>", escape(name));
        for group in groups {
            let value = group.settings.get(name).map_or("–", String::as_str);
            let _ = write!(html, "<td class=\"text\">{}</td>", escape(value));
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody>\n</table></div>\n");
    html
}

/// Instructions for repeating each run: its configuration, which is exact, and the command that began it.
fn commands(groups: &[Group]) -> String {
    let runs = || groups.iter().flat_map(|group| &group.runs);
    let exact = runs().filter_map(Run::exact_command).collect::<Vec<_>>();
    let begun = runs().filter_map(|run| run.view.command.clone());
    let begun = begun.collect::<Vec<_>>();
    let mut html = String::new();
    let controlled = runs().any(|run| by_hand(run).is_some());
    if !exact.is_empty() {
        html.push_str(
            "<p>Exactly, by the configuration that is in the run's directory, with every setting and \
             the seed. To the bit it is the same with the versions above:</p>\n",
        );
        listing(&mut html, &exact);
    }
    if !begun.is_empty() {
        html.push_str(
            "<p>As it was begun. This depends on the folder, on files that may have changed, and on \
             what the machine offers:</p>\n",
        );
        listing(&mut html, &begun);
    }
    if html.is_empty() {
        html.push_str(
            "<p>The runs kept neither their commands nor their config.toml; what is known of their \
             configuration is above.</p>\n",
        );
    }
    if controlled {
        html.push_str(
            "<p>Neither repeats a run that was changed by remote control: what was done is among its \
             faults.</p>\n",
        );
    }
    html
}

fn listing(html: &mut String, lines: &[String]) {
    let lines = escape(&lines.join("\n"));
    let _ = writeln!(html, "<pre><code>{lines}</code></pre>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text() {
        assert_eq!(
            escape("<a href=\"x\">'&'</a>"),
            "&lt;a href=&quot;x&quot;&gt;&#39;&amp;&#39;&lt;/a&gt;"
        );
        let html = table(&["A", "<B"], &[vec!["<i>".into(), "b".into()]]);
        assert!(
            html.contains("<td>&lt;i&gt;</td><td class=\"text\">b</td>"),
            "{html}"
        );
    }
}
