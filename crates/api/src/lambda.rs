//! AWS Lambda functions as destinations.

use crate::references::ObjectReference;

message! {
    /// One function of a cloud account.
    pub struct AwsLambdaReference {
        /// The CloudProvider with the account.
        pub cloud_provider: Option<ObjectReference>,
        /// Name of the function.
        pub function: String,
        /// Version or alias; empty means `$LATEST`.
        pub qualifier: String,
        /// How requests and responses are converted.
        pub options: Option<LambdaOptions>,
    }
}

message! {
    /// How a function is called.
    pub struct LambdaOptions {
        /// How requests are converted to events.
        pub request_transformation: RequestTransformation,
        /// How results are converted to responses.
        pub response_transformation: ResponseTransformation,
        /// Whether the caller waits for the result.
        pub invocation_style: InvocationStyle,
    }
}

named_values! {
    /// How requests are converted to events.
    pub enum RequestTransformation {
        /// As the gateway does by default.
        Default = "REQUEST_DEFAULT",
        /// Not at all.
        Disable = "REQUEST_DISABLE",
    }
}

named_values! {
    /// How results are converted to responses.
    pub enum ResponseTransformation {
        /// As the gateway does by default.
        Default = "RESPONSE_DEFAULT",
        /// Not at all.
        Disable = "RESPONSE_DISABLE",
    }
}

named_values! {
    /// Whether the caller of a function waits for its result.
    pub enum InvocationStyle {
        /// Waits.
        Sync = "SYNC",
        /// Does not wait.
        Async = "ASYNC",
    }
}

message! {
    /// Which Lambda functions the routes of a table may go to.
    pub struct CloudProviderFilterOptions {
        /// Limits for AWS.
        pub aws: Option<AwsFilterOptions>,
    }

    /// The cloud that is limited.
    oneof provider_options: ProviderOptions { aws: Aws(AwsFilterOptions), }
}

message! {
    /// What a function must match; an empty list matches all.
    pub struct AwsFilterOptions {
        /// Account numbers.
        pub account_ids: Vec<String>,
        /// Regular expressions over IAM roles.
        pub iam_roles: Vec<String>,
        /// Names of regions.
        pub regions: Vec<String>,
        /// Regular expressions over names of functions.
        pub lambda_functions: Vec<String>,
    }
}
