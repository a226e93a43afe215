//! The native merge, with which ours is compared: in each of the ways that Loro offers, each in a process of its own,
//! because an import cannot be stopped.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use loro::{ExportMode, LoroDoc};
use tokio::process::Command;
use tokio::time::timeout;

use crate::shapes::detached;

/// The longest time that the bench waits for a way. A merge of ours has 120 s of processor time.
const PATIENCE: Duration = Duration::from_secs(120);

/// A way to merge a log into a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Way {
    /// A separate import for each update.
    OneByOne,
    /// A single import of one update, which a detached document makes from all updates.
    AsOne,
    /// A single import of all updates as a batch.
    Batch,
}

/// The hidden command that merges once.
#[derive(Debug, Args)]
pub(crate) struct Merge {
    #[arg(long, value_enum)]
    way: Way,
    /// The folder with the snapshot and the updates.
    folder: PathBuf,
}

impl Merge {
    /// Merges, makes a snapshot, and prints the milliseconds that this took.
    ///
    /// # Errors
    /// If a file cannot be read or Loro cannot import it.
    pub(crate) fn run(&self) -> Result<()> {
        let snapshot = std::fs::read(self.folder.join("snapshot"))?;
        let mut updates = Vec::new();
        let file = |number: usize| self.folder.join(number.to_string());
        while file(updates.len()).try_exists()? {
            updates.push(std::fs::read(file(updates.len()))?);
        }
        let start = Instant::now();
        let doc = LoroDoc::new();
        doc.import(&snapshot)?;
        match self.way {
            Way::OneByOne => {
                for update in &updates {
                    doc.import(update)?;
                }
            }
            Way::AsOne => {
                let lacking =
                    detached(&snapshot, &updates)?.export(ExportMode::updates(&doc.oplog_vv()))?;
                doc.import(&lacking)?;
            }
            Way::Batch => {
                doc.import_batch(&updates)?;
            }
        }
        doc.export(ExportMode::Snapshot)?;
        println!("{}", start.elapsed().as_secs_f64() * 1000.0);
        Ok(())
    }
}

/// Finds the best of all ways; `None` if none of them ends in time. A way is given up once it is slower than another.
///
/// # Errors
/// If a file or a process fails.
pub(crate) async fn best(
    folder: &Path,
    snapshot: &[u8],
    updates: &[Vec<u8>],
) -> Result<Option<f64>> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("snapshot"), snapshot)?;
    for (number, update) in updates.iter().enumerate() {
        std::fs::write(folder.join(number.to_string()), update)?;
    }
    let mut best: Option<f64> = None;
    for way in Way::value_variants() {
        let patience = best.map_or(PATIENCE, |best| {
            // The two seconds are for the start of the process and for reading.
            Duration::from_secs_f64(best / 1000.0) + Duration::from_secs(2)
        });
        if let Some(took) = by(*way, folder, patience).await? {
            best = Some(best.map_or(took, |best| best.min(took)));
        }
    }
    std::fs::remove_dir_all(folder)?;
    Ok(best)
}

/// The milliseconds that a way takes; `None` if it does not end in time.
async fn by(way: Way, folder: &Path, patience: Duration) -> Result<Option<f64>> {
    let way = way.to_possible_value().context("the way has no name")?;
    let child = Command::new(std::env::current_exe()?)
        .args(["merge-natively", "--way", way.get_name()])
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let Ok(output) = timeout(patience, child.wait_with_output()).await else {
        return Ok(None);
    };
    let output = output?;
    anyhow::ensure!(output.status.success(), "merging natively failed");
    let took = String::from_utf8(output.stdout)?;
    Ok(Some(took.trim().parse()?))
}
