//! What the pages state about the rest of the project is so: values of the chart, names of trials, links.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::ensure;
use serde_json::Value;
use testenv::Run;

use crate::pages::all;
use crate::support::{project, text};
use crate::{Outcome, Suite};

pub fn add(suite: &mut Suite) {
    suite.add("docs/install.md has every value of the chart with its default, and no other", values);
    suite.add("the trials that docs/built-in-issuer.md names are there", trials);
    suite.add("every link between the pages leads to a page and a heading that are there", links);
}

async fn values(_: Run) -> Outcome {
    let mut expected = BTreeMap::new();
    flatten(&serde_yaml_ng::from_str(&text("deploy/helm/values.yaml")?)?, "", &mut expected);
    let page = text("docs/install.md")?;
    let rows = page.lines().skip_while(|line| !line.starts_with("| value |")).skip(2);
    let cells = rows.map_while(|line| {
        let mut cells = line.split(" | ").map(|cell| cell.trim_matches(['|', ' ', '`']).to_owned());
        Some((cells.next()?, cells.next()?))
    });
    let told: BTreeMap<_, _> = cells.collect();
    let differs: Vec<_> = expected.iter().filter(|row| !told.iter().any(|told| told == *row)).collect();
    ensure!(differs.is_empty(), "the page lacks, or has with another default: {differs:?}");
    let stale: Vec<_> = told.keys().filter(|name| !expected.contains_key(*name)).collect();
    ensure!(stale.is_empty(), "the chart has no {stale:?}");
    Ok(())
}

/// Each value by its whole name, with its default as the page writes it.
fn flatten(value: &Value, name: &str, into: &mut BTreeMap<String, String>) {
    match value.as_object().filter(|inner| !inner.is_empty()) {
        Some(inner) => {
            for (key, value) in inner {
                flatten(value, format!("{name}.{key}").trim_start_matches('.'), into);
            }
        }
        None => {
            let plain = value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
            into.insert(name.to_owned(), plain.unwrap_or_else(|| value.to_string()));
        }
    }
}

async fn trials(_: Run) -> Outcome {
    let mut sources = String::new();
    for folder in ["tests/quiet", "tests/disruptive"] {
        for entry in std::fs::read_dir(project(folder))? {
            sources.push_str(&std::fs::read_to_string(entry?.path())?);
        }
    }
    let page = text("docs/built-in-issuer.md")?;
    let rows: Vec<_> = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| case")).collect();
    ensure!(rows.len() >= 17, "{} rows", rows.len());
    for row in rows {
        let trial = row.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default();
        ensure!(trial.starts_with('"') && sources.contains(trial), "no trial {trial}, for {row}");
    }
    Ok(())
}

async fn links(_: Run) -> Outcome {
    let mut wrong = Vec::new();
    let mut pages = all()?;
    pages.extend(["CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"].map(project));
    for page in pages {
        let words = text(&page)?;
        for link in words.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link) {
            if !link.contains("://") && !leads_somewhere(&page, link) {
                wrong.push(format!("{}: {link}", page.display()));
            }
        }
    }
    ensure!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

fn leads_somewhere(page: &Path, link: &str) -> bool {
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target: PathBuf = if file.is_empty() { page.to_owned() } else { page.with_file_name(file) };
    let Ok(words) = std::fs::read_to_string(target) else { return false };
    let mut headings = words.lines().filter(|line| line.starts_with('#')).map(slug);
    anchor.is_empty() || headings.any(|heading| heading == anchor)
}

/// The anchor that GitHub gives a heading.
fn slug(heading: &str) -> String {
    let plain = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = plain.chars().filter(|it| it.is_alphanumeric() || [' ', '-', '_'].contains(it));
    kept.map(|it| if it == ' ' { '-' } else { it }).collect()
}
