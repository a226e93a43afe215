//! Who may come in.

use platform::spin::SpinConfig;

use crate::problem::Problem;

/// Fails closed: nothing is served that the settings do not suffice to protect.
pub(crate) fn check_settings() -> Result<(), Problem> {
    auth::readiness::missing_setting(&SpinConfig)
        .map_or(Ok(()), |setting| Err(Problem::not_configured(setting)))
}

/// Checks the bearer token of an internal route.
pub(crate) fn check_internal(authorization: Option<&str>) -> Result<(), Problem> {
    if auth::internal::may_pass(&SpinConfig, authorization) {
        Ok(())
    } else {
        Err(Problem::unauthorized())
    }
}
