//! What a plan will take: requests, time, and what the hubs still allow. Nothing is guessed that was not measured or said.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use hubferry_core::address::Address;
use hubferry_core::ops::CopyReport;
use hubferry_core::plan::Plan;
use hubferry_remotes::costs::{self, Job};
use hubferry_remotes::disk;
use hubferry_remotes::http::Allowance;
use hubferry_remotes::rates::{Load, Rates};
use serde_json::{Value, json};

use crate::output::{count, duration, printable, size};
use crate::session::Session;

/// People are told of requests that are left when the plan takes more than one in so many of them.
const NOTICEABLE: u64 = 20;

/// What a plan will take, as far as anybody can tell.
pub(super) struct Forecast {
    requests: u64,
    /// `None` when nothing like it was measured before.
    time: Option<Duration>,
    /// By host: the requests that are left there.
    allowances: Vec<(String, Allowance)>,
    /// Bytes that fit into the file system of a destination on this machine.
    room: Option<u64>,
    bytes: u64,
}

impl Forecast {
    /// Of a plan that was just made: the hubs have been asked already.
    pub(super) fn of(source: &Address, destination: &Address, report: &CopyReport, session: &Session) -> Self {
        let remotes = &session.remotes;
        let (from, to) = (remotes.host(source), remotes.host(destination));
        let there = report.sides.destination.as_ref().map_or(0, |there| there.entries.len());
        let job = Job {
            plan: &report.plan,
            create: report.created,
            source_files: (report.sides.source.entries.len() + report.left_out.files) as u64,
            destination_files: there as u64,
        };
        let rates = Rates::at(session.settings.cache.as_deref());
        let mut allowances = Vec::new();
        let mut seen = HashSet::new();
        for (address, host) in [(source, &from), (destination, &to)] {
            if let Some(host) = host.as_ref().filter(|host| seen.insert(*host)) {
                allowances.extend(remotes.allowances(address).into_iter().map(|allowance| (host.clone(), allowance)));
            }
        }
        Self {
            requests: costs::requests(&job, &remotes.costs(source), &remotes.costs(destination)),
            time: rates.time(from.as_deref(), to.as_deref(), load(&report.plan)),
            allowances,
            room: room(destination),
            bytes: report.plan.bytes(),
        }
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let time = match self.time {
            Some(time) if self.bytes > 0 => format!("about {} at the speed of earlier runs", duration(time)),
            _ if self.bytes == 0 => "nothing to wait for".to_owned(),
            _ => "time unknown, as nothing like it was moved between these places yet".to_owned(),
        };
        let mut lines = vec![format!("about {}; {time}\n", count(self.requests, "request"))];
        for (host, Allowance { account, left, quota, ends_in }) in &self.allowances {
            // An account that the plan hardly touches is no news.
            if *left < self.requests.saturating_mul(NOTICEABLE) {
                let of = quota.map_or(String::new(), |quota| format!(" of {quota}"));
                let within = duration(Duration::from_secs(ends_in.as_secs()));
                lines.push(format!("{host} takes {left}{of} more requests ({}) within {within}\n", printable(account)));
            }
        }
        if let Some(room) = self.room.filter(|room| *room < self.bytes) {
            lines.push(format!("the destination has room for {} only\n", size(room)));
        }
        lines.concat()
    }

    /// Requests that it will take.
    pub(super) fn requests(&self) -> u64 {
        self.requests
    }

    /// For machines.
    pub(super) fn json(&self) -> Value {
        let allowance = |(host, allowance): &(String, Allowance)| {
            json!({
                "host": host,
                "account": allowance.account,
                "left": allowance.left,
                "quota": allowance.quota,
                "seconds": allowance.ends_in.as_secs(),
            })
        };
        json!({
            "requests": self.requests,
            "seconds": self.time.map(|time| (time.as_secs_f64() * 10.0).round() / 10.0),
            "allowances": self.allowances.iter().map(allowance).collect::<Vec<_>>(),
            "room": self.room,
        })
    }
}

/// Keeps how fast a copy went, when it moved everything that it planned to move and nobody held it up.
pub(super) fn learn(source: &Address, destination: &Address, report: &CopyReport, session: &Session) {
    let is_whole = report.outcome.reused_blobs == 0 && report.outcome.moved_bytes == report.plan.bytes();
    if !is_whole || report.plan.is_empty() || session.context.throttle.is_some() {
        return;
    }
    let (from, to) = (session.remotes.host(source), session.remotes.host(destination));
    Rates::at(session.settings.cache.as_deref()).learn(from.as_deref(), to.as_deref(), load(&report.plan), report.moving);
}

/// Each content once.
fn load(plan: &Plan) -> Load {
    let mut seen = HashSet::new();
    Load::of(plan.puts().filter(|(_, entry)| entry.blob().is_none_or(|blob| seen.insert(blob))).map(|(_, entry)| entry.size))
}

/// What fits into the file system of a directory that may not be there yet.
fn room(destination: &Address) -> Option<u64> {
    let Address::Dir(path) = destination else { return None };
    let full = std::path::absolute(path).ok()?;
    let folder = full.ancestors().find(|folder| folder.is_dir()).map(Path::to_path_buf)?;
    disk::free_space(&folder).ok()
}
