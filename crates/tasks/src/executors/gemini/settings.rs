//! The settings of Gemini.

platform::settings! {
    /// The address of Gemini, which makes images
    pub(super) GEMINI_BASE_URL = "gemini_base_url", Value("https://generativelanguage.googleapis.com"), Origin;
    /// Gemini's API key
    pub(super) GEMINI_API_KEY = "gemini_api_key", Secret;
    /// The model of `nano_banana` tasks. If Gemini no longer has it, these tasks fail with an error that names this
    /// setting
    pub(super) NANO_BANANA_MODEL = "nano_banana_model", Value("gemini-nano-banana-2.1");
    /// The model of `nano_banana_pro` tasks
    pub(super) NANO_BANANA_PRO_MODEL = "nano_banana_pro_model", Value("gemini-3-pro-image");
    /// The parameters of models that this release does not know, or that have changed, by the beginnings of the models'
    /// names, such as `{"gemini-4": {"sizes": ["1K"], "ratios": ["1:1"], "references": 3}}`
    pub(super) GEMINI_MODELS = "gemini_models", Unset, JsonObject;
}
