//! Translation: a request object ↔ the three questions asked of it (where does it stand, what does it want, what is written).

pub mod certificate_request;
