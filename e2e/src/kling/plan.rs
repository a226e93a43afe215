//! The plan that a test gives to Kling: how its calls fail, and how its jobs go.

use std::time::Duration;

use bytes::Bytes;

/// The duration of a job that only [`Kling::finish`](super::Kling::finish) ends.
pub const UNTIL_TOLD: Duration = Duration::from_secs(3600);

/// A call, before it is answered.
#[derive(Debug, Clone)]
pub struct Call {
    /// The index of this call among all calls.
    pub number: usize,
    /// The app's name for the job, also if the call uses Kling's. For an unknown job, the name in the call.
    pub name: String,
    /// The prompt of the job that is submitted or asked about.
    pub prompt: String,
    /// Says whether the call submits a job.
    pub is_submission: bool,
    /// The number of jobs that the call is about.
    pub jobs: usize,
    /// The number of calls about the same job before this one.
    pub before: usize,
    /// The number of those that failed.
    pub wrong: usize,
}

/// The ways in which a call fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Answers the call with this status, code and message.
    Error(u16, i64, &'static str),
    /// Drops the connection before the call has an effect.
    DropBefore,
    /// Drops the connection after the call had its effect.
    DropAfter,
    /// Keeps the connection open, and never answers.
    Hang,
    /// Answers with something other than JSON.
    Garbage,
}

impl Fault {
    /// The answer to a client that calls too fast: 429.
    pub const TOO_FAST: Self = Self::Error(429, 1302, "too fast");
    /// The answer to a call that fails within Kling: 500.
    pub const BROKEN: Self = Self::Error(500, 5000, "internal error");
    /// The answer to content that Kling refuses: 400.
    pub const REFUSED: Self = Self::Error(400, 1301, "the risk control system objects");
}

/// The course of a job.
#[derive(Debug, Clone)]
pub struct Course {
    /// The time that it takes.
    pub duration: Duration,
    /// The number of callbacks about its end.
    pub callbacks: usize,
    /// The error message, if it fails.
    pub failure: Option<&'static str>,
    /// Says whether it ends, and calls back, before its submission is answered.
    pub is_early: bool,
    /// The bytes of its film, which Kling then serves itself. Otherwise the address of the film leads nowhere.
    pub film: Option<Bytes>,
}

impl Default for Course {
    fn default() -> Self {
        Self {
            duration: Duration::from_millis(200),
            callbacks: 1,
            failure: None,
            is_early: false,
            film: None,
        }
    }
}

impl Course {
    /// The course of a job that does not call back, so that it has to be polled.
    pub fn silent() -> Self {
        Self {
            callbacks: 0,
            ..Self::default()
        }
    }
}

/// Decides whether a call fails, and how.
pub type FaultPlan = Box<dyn Fn(&Call) -> Option<Fault> + Send + Sync>;

/// Decides how a job goes, by its index among all jobs and its prompt.
pub type CoursePlan = Box<dyn Fn(usize, &str) -> Course + Send + Sync>;

/// The behaviour of Kling. By default no call fails, and each job succeeds and calls back once.
pub struct Plan {
    /// The failure of a call, if it fails.
    pub fault: FaultPlan,
    /// The course of a job.
    pub course: CoursePlan,
    /// The number of jobs that the account may have at once.
    pub places: usize,
    /// The secret that Kling signs its callbacks with, without `whsec_` and not in base64.
    pub secret: Option<&'static str>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            fault: Box::new(|_| None),
            course: Box::new(|_, _| Course::default()),
            places: usize::MAX,
            secret: None,
        }
    }
}

impl Plan {
    /// A plan whose jobs run until the test ends them.
    pub fn until_told() -> Self {
        Self::default().course(|_, _| Course {
            duration: UNTIL_TOLD,
            ..Course::default()
        })
    }

    /// Sets the number of jobs that the account may have at once.
    #[must_use]
    pub fn places(mut self, places: usize) -> Self {
        self.places = places;
        self
    }

    /// Sets which calls fail, and how.
    #[must_use]
    pub fn fault(mut self, fault: impl Fn(&Call) -> Option<Fault> + Send + Sync + 'static) -> Self {
        self.fault = Box::new(fault);
        self
    }

    /// Sets the course of each job.
    #[must_use]
    pub fn course(
        mut self,
        course: impl Fn(usize, &str) -> Course + Send + Sync + 'static,
    ) -> Self {
        self.course = Box::new(course);
        self
    }
}
