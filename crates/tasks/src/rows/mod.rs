//! The rows of `aigc_tasks`. Each function is one statement, so that any number of instances may run them at once and be
//! killed between any two. `store_product` is two, and the next poll repeats it if an instance was killed between them.
//!
//! A document shows a `version` of a task: every statement that changes what the document shows counts
//! the version up and sets `projected_status` to NULL, which means that the document does not show it yet.

mod changes;
mod claims;
mod ending;
mod gauges;
mod large;
mod notifications;
mod places;
mod portable;
mod products;
mod progress;
mod projected;
mod read;
mod row;
mod shown;
mod store;
mod tries;

pub use changes::{Changes, changes, last_changes};
pub(crate) use claims::{
    FIRST_WAIT, LONGEST_WAIT, Rule, claim_poll, claim_polls, claim_submission, explain_wait,
    explain_waits, is_submission_due,
};
pub(crate) use ending::{End, cancel_late, end_silent, finish, set_back};
pub use gauges::{gauges, has_open};
pub(crate) use large::{keep_signature, params_of, signature};
pub use large::{params, result_data};
pub(crate) use notifications::{claim_notifications, notified, record_notification};
pub(crate) use places::{FIRST_PAUSE, Refusal, asked_too_often, has_taken, refusals, refused};
pub use portable::{PortableTask, adopt, portable, sizes};
pub(crate) use products::{
    Medium, Product, claim_product, note_product, product, put_off_product, renew_claim,
    store_product,
};
pub(crate) use progress::{accept, forgive, put_back, put_off};
pub use projected::{
    HeadSql, Projected, Unprojected, mark_projected, unchanged, unprojected, unprojected_projects,
};
pub use read::{Filter, get, list, marks};
pub use shown::Shown;
pub(crate) use store::{Insert, by_key, insert};
pub use tries::{Try, tries};
