//! Who made a run, and whether that process still lives. It is read from the run's name and from the system, never from a file
//! lock: some file systems have none, and some only pretend.

use std::sync::OnceLock;
use std::time::Duration;

use hubferry_core::digest::Oid;
use hubferry_core::error::Result;

/// A run of another machine that has not shown itself for this long counts as dead.
pub(crate) const SILENCE: Duration = Duration::from_mins(15);
/// The same for a run of this machine from before it was started anew, or from a container that has this one's name.
const REBOOTED: Duration = Duration::from_mins(2);

/// What is known of the process behind a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Life {
    /// It runs, or may: what it has made is not touched.
    Alive,
    /// It has ended: what it has made is there for the taking.
    Gone,
    /// It has not shown itself for long. It might wake up: no file that it may hold open is written to.
    Silent,
}

/// A process, told from every other one that ever ran on any machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Maker {
    pub(crate) machine: u64,
    /// One start of that machine and one space of process numbers on it.
    pub(crate) boot: u64,
    pub(crate) process: u32,
    /// When the process began; 0 where the system does not say. Process numbers are used again.
    pub(crate) started: u64,
}

impl Maker {
    /// This process.
    pub(crate) fn me() -> Self {
        static ME: OnceLock<Maker> = OnceLock::new();
        *ME.get_or_init(|| {
            let process = std::process::id();
            let started = system::own_start(process).unwrap_or_default();
            Self { machine: brief(&system::machine()), boot: brief(&system::boot()), process, started }
        })
    }

    /// A name for a run of this process.
    pub(crate) fn new_id(self) -> String {
        let Self { machine, boot, process, started } = self;
        format!("{machine:016x}-{boot:016x}-{process}-{started}-{:016x}", fastrand::u64(..))
    }

    /// Who made a run; `None` when its name does not say.
    pub(crate) fn of(id: &str) -> Option<Self> {
        let mut parts = id.split('-');
        let mut next = || parts.next();
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        let maker =
            Self { machine: number(next()?)?, boot: number(next()?)?, process: next()?.parse().ok()?, started: next()?.parse().ok()? };
        Some(maker)
    }

    /// Whether `other` ran since the last start of this machine, so that what it wrote is in this system's memory if not on the disk.
    pub(crate) fn shares_memory(self, other: Self) -> bool {
        self.boot == other.boot
    }

    /// Whether it runs; `None` when that cannot be told from here.
    fn runs(self) -> Option<bool> {
        let me = Self::me();
        if self == me {
            return Some(true);
        }
        if self.boot != me.boot {
            return None;
        }
        if !system::exists(self.process) {
            return Some(false);
        }
        if self.started == 0 || me.started == 0 {
            return None;
        }
        // A process that others may not look into is there, and may be this or a later one of the same number.
        system::look_at(self.process).map(|seen| seen == Seen::Runs { since: self.started })
    }
}

/// What is known of the process behind the run `id`, which has last shown itself `quiet` ago.
pub(crate) fn life(id: &str, quiet: impl FnOnce() -> Result<Duration>) -> Result<Life> {
    let maker = Maker::of(id);
    match maker.and_then(Maker::runs) {
        Some(true) => return Ok(Life::Alive),
        Some(false) => return Ok(Life::Gone),
        None => {}
    }
    let me = Maker::me();
    let earlier = maker.is_some_and(|maker| maker.machine == me.machine && maker.boot != me.boot);
    let quiet = quiet()?;
    Ok(match quiet {
        _ if earlier && quiet > REBOOTED => Life::Gone,
        _ if quiet > SILENCE => Life::Silent,
        _ => Life::Alive,
    })
}

/// What the system shows of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Seen {
    Runs {
        since: u64,
    },
    /// It waits for its parent to take note.
    #[cfg(unix)]
    Ended,
}

fn brief(text: &str) -> u64 {
    Oid::of(text.as_bytes()).0.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

#[cfg(unix)]
mod system {
    //! What Unix says of processes; more where there is `/proc`.

    use super::Seen;
    use rustix::io::Errno;
    use rustix::process::{Pid, test_kill_process};

    pub(super) fn machine() -> String {
        let id = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
        format!("{} {}", id.trim(), node())
    }

    pub(super) fn boot() -> String {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        let space = std::fs::read_link("/proc/self/ns/pid");
        match (boot, space) {
            (Ok(boot), Ok(space)) => format!("{} {}", boot.trim(), space.display()),
            _ => node(),
        }
    }

    fn node() -> String {
        rustix::system::uname().nodename().to_string_lossy().into_owned()
    }

    pub(super) fn exists(process: u32) -> bool {
        let Some(process) = i32::try_from(process).ok().and_then(Pid::from_raw) else { return false };
        test_kill_process(process) != Err(Errno::SRCH)
    }

    /// When this process began. `None` also where `/proc` counts processes in another way than we do.
    pub(super) fn own_start(process: u32) -> Option<u64> {
        let text = std::fs::read_to_string("/proc/self/stat").ok()?;
        let same = text.split(' ').next()?.parse() == Ok(process);
        if same { Stat::parse(&text).map(|stat| stat.started) } else { None }
    }

    /// `None` when it may not be looked at.
    pub(super) fn look_at(process: u32) -> Option<Seen> {
        let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        let stat = Stat::parse(&text)?;
        // Killed in the middle of a write, it is shown as ended while its last threads still write.
        let ended = matches!(stat.state, b'Z' | b'X') && stat.threads <= 1;
        Some(if ended { Seen::Ended } else { Seen::Runs { since: stat.started } })
    }

    #[derive(PartialEq, Eq, Debug)]
    pub(super) struct Stat {
        pub(super) state: u8,
        pub(super) threads: u64,
        pub(super) started: u64,
    }

    impl Stat {
        pub(super) fn parse(text: &str) -> Option<Self> {
            // The second field is the program's name, in which there may be anything.
            let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
            let field = |number: usize| fields.get(number - 3).copied();
            Some(Self { state: *field(3)?.as_bytes().first()?, threads: field(20)?.parse().ok()?, started: field(22)?.parse().ok()? })
        }
    }
}

#[cfg(not(unix))]
mod system {
    //! Systems of which nothing is known: every run makes a start of its own, and lives as long as it shows itself.

    pub(super) fn machine() -> String {
        format!("{:x}", fastrand::u64(..))
    }

    pub(super) fn boot() -> String {
        format!("{:x}", fastrand::u64(..))
    }

    pub(super) fn exists(_: u32) -> bool {
        true
    }

    pub(super) fn own_start(_: u32) -> Option<u64> {
        None
    }

    pub(super) fn look_at(_: u32) -> Option<super::Seen> {
        None
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;

    const RECENT: fn() -> Result<Duration> = || Ok(Duration::from_secs(5));

    fn id_of(change: impl FnOnce(&mut Maker)) -> String {
        let mut maker = Maker::me();
        change(&mut maker);
        maker.new_id()
    }

    #[test]
    fn a_name_tells_who_made_it() {
        let id = Maker::me().new_id();
        assert_eq!(Maker::of(&id), Some(Maker::me()));
        assert_ne!(id, Maker::me().new_id());
        assert_eq!(Maker::of("1-dead"), None);
        assert_eq!(life(&id, || panic!("no need to ask")).unwrap(), Life::Alive);
    }

    #[test]
    fn a_process_that_ended_is_gone_and_its_number_may_be_used_again() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let Some(Seen::Runs { since: started }) = system::look_at(child.id()) else { panic!("it sleeps") };
        let id = id_of(|maker| (maker.process, maker.started) = (child.id(), started));
        let later = id_of(|maker| (maker.process, maker.started) = (child.id(), started + 1));
        assert_eq!(life(&id, RECENT).unwrap(), Life::Alive);
        assert_eq!(life(&later, RECENT).unwrap(), Life::Gone);
        child.kill().unwrap();
        // Not waited for: a zombie is dead.
        while system::look_at(child.id()) != Some(Seen::Ended) {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(life(&id, RECENT).unwrap(), Life::Gone);
        child.wait().unwrap();
        assert_eq!(life(&id, RECENT).unwrap(), Life::Gone);
    }

    #[test]
    fn other_machines_are_judged_by_their_silence() {
        let other = id_of(|maker| (maker.machine, maker.boot) = (1, 2));
        assert_eq!(life(&other, RECENT).unwrap(), Life::Alive);
        assert_eq!(life(&other, || Ok(Duration::from_mins(5))).unwrap(), Life::Alive);
        assert_eq!(life(&other, || Ok(Duration::from_mins(16))).unwrap(), Life::Silent);
        let before_the_crash = id_of(|maker| maker.boot = 2);
        assert_eq!(life(&before_the_crash, RECENT).unwrap(), Life::Alive);
        assert_eq!(life(&before_the_crash, || Ok(Duration::from_mins(5))).unwrap(), Life::Gone);
        assert_eq!(life("whatever", || Ok(Duration::from_mins(16))).unwrap(), Life::Silent);
    }

    #[test]
    fn a_program_may_have_any_name() {
        let text = "7 (a ) (b) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 11 0 987654 10 11 12";
        assert_eq!(system::Stat::parse(text), Some(system::Stat { state: b'S', threads: 11, started: 987_654 }));
        assert_eq!(system::Stat::parse("7 (x) S 1"), None);
    }
}
