//! Rewriting with regular expressions, in the form that Envoy's API gives it.

message! {
    /// What to find and what to put there.
    pub struct RegexMatchAndSubstitute {
        /// What to find.
        pub pattern: Option<RegexMatcher>,
        /// What to put there; `\1` stands for the first group.
        pub substitution: String,
    }
}

message! {
    /// A regular expression.
    pub struct RegexMatcher {
        /// The engine.
        pub google_re2: Option<GoogleRe2>,
        /// The expression.
        pub regex: String,
    }

    /// The engine that runs the expression.
    oneof engine_type: RegexEngine { google_re2: GoogleRe2(GoogleRe2), }
}

message! {
    /// Settings of the RE2 engine.
    pub struct GoogleRe2 {
        /// Largest size of a compiled expression.
        #[schemars(extend("nullable" = true))]
        pub max_program_size: Option<u32>,
    }
}
