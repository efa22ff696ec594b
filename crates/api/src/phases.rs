//! When a policy acts, measured against authorization.

message! {
    /// The place of a policy in the chain of filters.
    pub struct PrioritizedPhase {
        /// Before external authorization.
        pub pre_authz: Option<Phase>,
        /// After external authorization.
        pub post_authz: Option<Phase>,
    }

    /// On which side of external authorization.
    oneof phase: PhaseChoice { pre_authz: PreAuthz(Phase), post_authz: PostAuthz(Phase), }
}

message! {
    /// The place within a phase.
    pub struct Phase {
        /// Lower numbers act first; 0 by default, negative ones are allowed.
        #[schemars(extend("nullable" = true))]
        pub priority: Option<i32>,
    }
}
