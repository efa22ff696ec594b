use std::collections::BTreeMap;

message! {
    /// User name and password.
    pub struct BasicAuth {
        /// What clients are told that the password is for.
        pub realm: String,
        /// Users with passwords in APR's form.
        pub apr: Option<Apr>,
        /// How passwords of `userList` are hashed.
        pub encryption: Option<PasswordHash>,
        /// Users.
        pub user_list: Option<UserList>,
    }

    /// Where users come from.
    oneof user_source: UserSource { user_list: UserList(UserList), }
}

message! {
    /// Users with passwords in APR's form.
    pub struct Apr {
        /// By name.
        pub users: BTreeMap<String, SaltedPassword>,
    }
}

message! {
    /// How passwords are hashed.
    pub struct PasswordHash {
        /// As the Apache portable runtime does it.
        pub apr: Option<AprHash>,
        /// With SHA-1.
        pub sha1: Option<Sha1Hash>,
    }

    /// The way.
    oneof algorithm: PasswordAlgorithm { apr: Apr(AprHash), sha1: Sha1(Sha1Hash), }
}

message! {
    /// Hashes of the Apache portable runtime; there are no settings.
    pub struct AprHash {}
}

message! {
    /// Hashes of SHA-1; there are no settings.
    pub struct Sha1Hash {}
}

message! {
    /// Users.
    pub struct UserList {
        /// By name.
        pub users: BTreeMap<String, SaltedPassword>,
    }
}

message! {
    /// A hashed password.
    pub struct SaltedPassword {
        /// What was hashed with it.
        pub salt: String,
        /// The hash.
        pub hashed_password: String,
    }
}
