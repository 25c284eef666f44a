//! What a run leaves behind in files: its plan, or its receipts.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use hubferry_core::error::Error;
use hubferry_core::plan::file::{PlanFile, PlannedCopy};
use serde_json::Value;

use crate::exit::Failure;
use crate::new_file::NewFile;
use crate::output::{count, printable};
use crate::session::{Session, TOOL, now};

/// The files that were asked for, and what goes into them.
#[derive(Debug, Default)]
pub(super) struct Records {
    plan: Option<Paper<PlannedCopy>>,
    receipt: Option<Paper<String>>,
}

#[derive(Debug)]
struct Paper<T> {
    file: NewFile,
    /// By destination: the order in which copies end says nothing.
    lines: Mutex<Vec<(String, T)>>,
}

impl<T> Paper<T> {
    fn at(path: &Path) -> Result<Self, Error> {
        Ok(Self { file: NewFile::at(path)?, lines: Mutex::default() })
    }

    fn add(&self, destination: String, line: T) {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push((destination, line));
    }

    fn take(&self) -> Vec<T> {
        let mut lines = std::mem::take(&mut *self.lines.lock().unwrap_or_else(PoisonError::into_inner));
        lines.sort_by(|a, b| a.0.cmp(&b.0));
        lines.into_iter().map(|(_, line)| line).collect()
    }
}

/// The files that were written.
#[derive(Debug, Default)]
pub(super) struct Written {
    plan: Option<String>,
    receipt: Option<String>,
}

impl Written {
    /// Names them in a report for machines.
    pub(super) fn name_in(&self, report: &mut Value) {
        for (key, path) in [("plan_file", &self.plan), ("receipt_file", &self.receipt)] {
            if let Some(path) = path {
                report[key] = path.as_str().into();
            }
        }
    }
}

impl Records {
    /// Fails before anything moves if one of the files could not be written.
    pub(super) fn new(plan: Option<&Path>, receipt: Option<&Path>) -> Result<Self, Failure> {
        Ok(Self { plan: plan.map(Paper::at).transpose()?, receipt: receipt.map(Paper::at).transpose()? })
    }

    /// Whether somebody wants the plan of each copy.
    pub(super) fn wants_plan(&self) -> bool {
        self.plan.is_some()
    }

    /// Whether somebody wants a receipt of each copy.
    pub(super) fn wants_receipt(&self) -> bool {
        self.receipt.is_some()
    }

    /// Takes the plan of one copy.
    pub(super) fn planned(&self, copy: PlannedCopy) {
        if let Some(paper) = &self.plan {
            paper.add(copy.destination.address.clone(), copy);
        }
    }

    /// Takes the receipt of one copy, a line of JSON.
    pub(super) fn done(&self, destination: String, line: String) {
        if let Some(paper) = &self.receipt {
            paper.add(destination, line);
        }
    }

    /// Writes the files; none where there is nothing to write.
    pub(super) fn finish(&self, session: &Session) -> Result<Written, Failure> {
        let mut written = Written::default();
        if let Some(paper) = &self.plan {
            let copies = paper.take();
            if !copies.is_empty() {
                let path = paper.file.path().display().to_string();
                paper.file.write(&PlanFile::new(TOOL, now(), copies).to_json()?)?;
                session.output.text(|| format!("plan written to {0}; carry it out with: hubferry apply {0}\n", printable(&path)));
                written.plan = Some(path);
            }
        }
        if let Some(paper) = &self.receipt {
            let lines = paper.take();
            if !lines.is_empty() {
                let path = paper.file.path().display().to_string();
                // What was done is done: only the word of it is missing then.
                paper
                    .file
                    .write(&lines.concat())
                    .map_err(|e| e.hint("everything was copied; run the same command again for the receipt"))?;
                session.output.text(|| format!("{} written to {}\n", count(lines.len() as u64, "receipt"), printable(&path)));
                written.receipt = Some(path);
            }
        }
        Ok(written)
    }
}
