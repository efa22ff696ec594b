pub(crate) mod reference;
pub(crate) mod sandbox;
pub(crate) mod token;
pub(crate) mod translate;
