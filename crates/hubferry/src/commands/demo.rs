//! `demo`: the main job on two embedded hubs, told step by step.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hubferry_core::error::{Error, Kind};
use hubferry_core::filter::Filter;
use hubferry_core::ops::{self, CopyReport, CopyRequest, VerifyRequest};
use hubferry_core::plan::Policy;
use hubferry_core::remote::Visibility;
use hubferry_core::secret::Token;
use hubferry_core::transfer::Ends;
use hubferry_remotes::git::GitTool;
use hubferry_remotes::registry::{HubSettings, Protocol, RemotePlace, RemoteSettings};
use hubferry_remotes::ssh::SshTool;
use hubferry_server::{Role, User};
use indicatif::MultiProgress;
use serde_json::{Value, json};
use url::Url;

use super::serve::private;
use super::{Outcome, sample};
use crate::args::{DemoArgs, Shared};
use crate::config::Settings;
use crate::exit::{Exit, Failure};
use crate::output::{Output, count, duration, size};
use crate::session::{Session, message, usage};

const SOURCE: &str = "hf:demo/sample";
const DESTINATION: &str = "ms:mirror/sample";

/// `hubferry demo`
pub(crate) async fn run(args: DemoArgs, shared: &Shared, output: Output, bars: Arc<MultiProgress>) -> Outcome {
    let started = std::time::Instant::now();
    let home = tempfile::tempdir().map_err(|e| Error::new(Kind::Io, "cannot make a folder for the demo").caused_by(e))?;
    let model = match args.model {
        Some(folder) if folder.is_dir() => folder,
        Some(folder) => {
            return Err(usage(&format!("{} is not a directory", folder.display()), "name the folder of a model, or leave --model out"));
        }
        None => {
            let folder = home.path().join("model");
            sample::write(&folder)?;
            folder
        }
    };
    let secret = |text: String| Token::new(&text).ok_or_else(|| Error::new(Kind::Bug, "an empty token"));
    let token = secret(format!("demo-{}", home.path().file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned())))?;
    let user = |name: &str| User { name: name.to_owned(), token: token.clone(), role: Role::Write };
    let (first, second) = (home.path().join("hub-a"), home.path().join("hub-b"));
    let (a, b) = (private(&first, user("demo")).await?, private(&second, user("mirror")).await?);
    let (hf, ms) = (a.hf_url().unwrap_or_default(), b.ms_url().unwrap_or_default());
    let settings = settings(&hf, &ms, &token, home.path())?;
    let session = Session::with_settings(shared, settings, output.clone(), bars)?;
    let demo = Demo { session: &session, model, steps: Vec::new() };
    output.text(|| format!("Two hubs listen: Hugging Face API at {hf}, ModelScope API at {ms}.\n\n"));
    let result = demo.run().await;
    session.progress.finish();
    drop(session);
    a.shutdown().await;
    b.shutdown().await;
    let steps = result?;
    home.close().map_err(|e| Error::new(Kind::Io, "cannot remove the folder of the demo").caused_by(e))?;
    output.json(&json!({"ok": true, "steps": steps, "seconds": (started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0}));
    output.text(|| format!("\nAll done in {}. Both hubs are stopped and their folders removed.\n", duration(started.elapsed())));
    Ok(Exit::Done)
}

/// Two remotes and nothing from the user's own configuration.
fn settings(hf: &str, ms: &str, token: &Token, home: &Path) -> Result<Settings, Error> {
    let remote = |name: &str, protocol, url: &str| {
        let endpoint = Url::parse(url).map_err(|e| Error::new(Kind::Bug, "a hub of our own has no URL").caused_by(e))?;
        let hub = HubSettings {
            endpoint,
            endpoint_from: "demo".into(),
            token: Some(token.clone()),
            credential_from: Some("demo".into()),
            offline: None,
        };
        let place = RemotePlace::Hub { protocol, hub };
        Ok(RemoteSettings { name: name.into(), aliases: Vec::new(), place, hosts: Vec::new(), bare_url_kind: None })
    };
    Ok(Settings {
        #[cfg(feature = "xet")]
        no_xet: None,
        remotes: vec![remote("hf", Protocol::HuggingFace, hf)?, remote("ms", Protocol::ModelScope, ms)?],
        certificates: Vec::new(),
        git: GitTool { program: "git".into(), environment: Vec::new(), folder: None },
        ssh: SshTool { program: "ssh".into(), environment: Vec::new(), temporary: home.to_owned() },
        cache: Some(home.join("cache")),
        proxies: Vec::new(),
        file: None,
        mirrors: std::collections::BTreeMap::new(),
        defaults: crate::config::Defaults::default(),
    })
}

struct Demo<'a> {
    session: &'a Session,
    model: PathBuf,
    steps: Vec<Value>,
}

impl Demo<'_> {
    async fn run(mut self) -> Result<Vec<Value>, Failure> {
        let model = format!("dir:{}", self.model.display());
        let published = self.copy(&model, SOURCE).await?;
        self.tell("1", "published", &published, &format!("{} to {SOURCE}", self.model.display()));
        let copied = self.copy(SOURCE, DESTINATION).await?;
        self.tell("2", "copied", &copied, &format!("{SOURCE} to {DESTINATION}, hub to hub, no disk in between"));
        self.verify().await?;
        let again = self.copy(SOURCE, DESTINATION).await?;
        self.tell("4", "copied again", &again, &format!("{SOURCE} to {DESTINATION}"));
        if !again.plan.is_empty() || again.outcome.moved_bytes != 0 {
            return Err(Error::new(Kind::Bug, "the second copy found something to do").into());
        }
        Ok(self.steps)
    }

    async fn copy(&self, from: &str, to: &str) -> Result<CopyReport, Failure> {
        let session = self.session;
        let (source, destination) = (session.address(from)?, session.address(to)?);
        let request = CopyRequest {
            ends: Ends { from: session.source(&source, None)?, also: Vec::new(), to: session.target(&destination, None)? },
            also: Vec::new(),
            filter: Filter::default(),
            policy: Policy::default(),
            dry_run: false,
            visibility: Some(Visibility::Public),
            allow_public: true,
            allow_secrets: false,
            generated: None,
            message: message(&source, None),
            prepared: None,
        };
        Ok(ops::copy(&request, &session.context).await?)
    }

    async fn verify(&mut self) -> Result<(), Failure> {
        let session = self.session;
        let (place, against) = (session.address(DESTINATION)?, session.address(&format!("dir:{}", self.model.display()))?);
        let request = VerifyRequest {
            place: session.source(&place, None)?,
            against: Some(session.source(&against, None)?),
            repair: None,
            filter: Filter::default(),
            generated: None,
            message: message(&place, None),
        };
        let findings = ops::verify_place(&request, &session.context).await?.findings;
        session.progress.finish();
        let matched = findings.count(|verdict| matches!(verdict, hubferry_core::verify::Verdict::Matched)) as u64;
        self.steps.push(json!({"step": "verified", "matched": matched, "bytes_read": findings.bytes_read, "ok": findings.is_ok()}));
        session.output.text(|| format!("3. verified: {} read back, every byte hashed, all equal to the model\n", count(matched, "file")));
        if findings.is_ok() {
            return Ok(());
        }
        Err(Error::new(Kind::Corrupt, format!("the copy differs from the model in {:?}", findings.bad())).into())
    }

    fn tell(&mut self, number: &str, verb: &str, report: &CopyReport, what: &str) {
        self.session.progress.finish();
        let (plan, outcome) = (&report.plan, &report.outcome);
        self.steps.push(
            json!({"step": verb, "files": plan.puts().count(), "moved_bytes": outcome.moved_bytes, "commits": outcome.commits.len()}),
        );
        let files = count(plan.puts().count() as u64, "file");
        let commits = count(outcome.commits.len() as u64, "commit");
        self.session.output.text(|| format!("{number}. {verb}: {files}, {} moved, {commits}: {what}\n", size(outcome.moved_bytes)));
    }
}
