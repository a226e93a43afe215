//! The setting that would let in a page that is refused because its origin, or the name under which it reached the
//! server, is not allowed.

use platform::{Config, Form};

use crate::origins::ALLOWED_ORIGINS;

/// The header with the setting that lets a refused page in, for the log of the relay, which removes it from the answer.
/// A browser does not show a refusal, and strangers need not know which other origins are allowed.
pub const REFUSED_PAGE: &str = "x-loro-internal-refused-page";

/// The setting that lets a page in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// The page's origin, or the address of the name that it used.
    pub(crate) address: String,
    /// The whole setting: the origins that are allowed already, and this one.
    setting: String,
    /// Says whether the caller may read the setting, too.
    is_told: bool,
}

impl Advice {
    /// Advises to allow this address in addition to those that are allowed; `None` if the setting does not take it.
    pub fn to_allow(address: String, config: &dyn Config) -> Option<Self> {
        if address.is_empty() || !Form::Origin.fits(&address) {
            return None;
        }
        let allowed = config.get(ALLOWED_ORIGINS).unwrap_or_default();
        let allowed = allowed.split(',').map(str::trim);
        let allowed: Vec<&str> = allowed.filter(|one| !one.is_empty()).collect();
        let value = [&allowed[..], &[&address]].concat().join(",");
        Some(Self {
            setting: format!("SPIN_VARIABLE_ALLOWED_ORIGINS={value}"),
            is_told: config.is_development(),
            address,
        })
    }

    /// The sentence for the log.
    pub(crate) fn for_the_log(&self) -> String {
        format!("To allow {}, set {}", self.address, self.setting)
    }

    /// The sentence for the caller.
    pub(crate) fn for_the_caller(&self) -> String {
        if self.is_told {
            self.for_the_log()
        } else {
            "The setting `allowed_origins` names the pages that may; the server's log has the line that allows this one."
                .into()
        }
    }
}
