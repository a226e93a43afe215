//! Settings.

/// Reads settings by name, such as `internal_token`. On Spin they are the application's variables.
pub trait Config {
    /// The value of a setting; `None` where it is not set or empty.
    fn get(&self, name: &str) -> Option<String>;

    /// Whether this is no deployment. An `environment` of any other name is one.
    fn is_development(&self) -> bool {
        self.get("environment")
            .is_none_or(|environment| environment == "development")
    }
}
