pub struct OfficialModel; pub struct Tilde;
