use std::collections::BTreeMap;

use crate::Empty;

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
        pub apr: Option<Empty>,
        /// With SHA-1.
        pub sha1: Option<Empty>,
    }

    /// The way.
    oneof algorithm: PasswordAlgorithm { apr: Apr(Empty), sha1: Sha1(Empty), }
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
