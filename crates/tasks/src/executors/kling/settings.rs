//! The settings of Kling.

platform::settings! {
    /// The address of Kling, which makes videos. The other region is `https://api-beijing.klingai.com`
    pub(super) KLING_BASE_URL = "kling_base_url", Value("https://api-singapore.klingai.com"), Origin;
    /// Kling's API key
    pub(super) KLING_API_KEY = "kling_api_key", Secret;
    /// The access key of the older pair of keys, which is used if `kling_api_key` is not set
    pub(super) KLING_ACCESS_KEY = "kling_access_key", Secret;
    /// The secret key of that pair
    pub(super) KLING_SECRET_KEY = "kling_secret_key", Secret;
    /// The number of jobs that the account may have at Kling at once. Kling would refuse more, so further tasks wait here
    pub(super) KLING_PLACES = "kling_places", Value("100"), Number(MOST_PLACES);
    /// The hours that a job may take after Kling has accepted it. After that its task fails; a retry first looks
    /// whether the job has a result by then
    pub(super) KLING_LONGEST_JOB = "kling_longest_job", Value("24"), Number(LONGEST_JOB);
    /// The parameters of models that this release does not know, or that have changed, by the beginnings of the models'
    /// names, such as
    /// `{"kling-4": {"generation": 2, "durations": [5, 10], "sound": "optional", "modes": ["std", "pro"]}}`
    pub(super) KLING_MODELS = "kling_models", Unset, JsonObject;
    /// The secret with which Kling signs its callbacks, as its console shows it (`whsec_…`). If it is set, a callback
    /// without that signature is refused (401); if not, the signature in the callback's address is enough
    pub(super) KLING_WEBHOOK_SECRET = "kling_webhook_secret", Secret;
}

/// The most places that an operator may set.
const MOST_PLACES: u32 = 100_000;

/// The most hours for a job that an operator may set: the time for which Kling keeps results.
pub(super) const LONGEST_JOB: u32 = 30 * 24;
