pub(crate) mod agent;
pub(crate) mod approve;
pub(crate) mod get;
pub(crate) mod reference;
pub(crate) mod sandbox;
pub(crate) mod token;
pub(crate) mod translate;
