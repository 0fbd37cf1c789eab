-- The broker's only truth. Times are seconds since the epoch where nothing else is said.

-- Topics and subscriptions by full name ("projects/…/topics/…", "projects/…/subscriptions/…").
CREATE TABLE IF NOT EXISTS resources (
  name TEXT PRIMARY KEY,
  topic TEXT, -- a subscription's topic; null for a topic
  resource BLOB NOT NULL -- a serialized google.pubsub.v1.Topic or Subscription
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS subscriptions_of_topic ON resources (topic) WHERE topic IS NOT NULL;

-- AUTOINCREMENT: an id is never given twice, not even after its message is gone.
CREATE TABLE IF NOT EXISTS messages (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  published INTEGER NOT NULL, -- microseconds since the epoch
  data BLOB NOT NULL,
  attributes TEXT NOT NULL, -- JSON object
  ordering_key TEXT NOT NULL
);

-- One row per message and subscription, from publish to acknowledgement.
CREATE TABLE IF NOT EXISTS deliveries (
  subscription TEXT NOT NULL REFERENCES resources (name) ON DELETE CASCADE,
  message_id INTEGER NOT NULL REFERENCES messages (id),
  ordering_key TEXT NOT NULL, -- empty where the subscription does not order
  failures INTEGER NOT NULL DEFAULT 0, -- nacks and passed deadlines
  ack_id TEXT, -- set while leased
  due REAL NOT NULL, -- leased: the ack deadline; else: the next delivery's time
  PRIMARY KEY (subscription, message_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS deliveries_ready ON deliveries (subscription, due, message_id) WHERE ack_id IS NULL;
CREATE INDEX IF NOT EXISTS deliveries_leased ON deliveries (due) WHERE ack_id IS NOT NULL;
CREATE UNIQUE INDEX IF NOT EXISTS deliveries_by_ack_id ON deliveries (ack_id) WHERE ack_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS deliveries_of_message ON deliveries (message_id);
CREATE INDEX IF NOT EXISTS deliveries_by_key ON deliveries (subscription, ordering_key, message_id)
  WHERE ordering_key <> '';

-- A message lives as long as a subscription waits for it.
CREATE TRIGGER IF NOT EXISTS forget_message AFTER DELETE ON deliveries BEGIN
  DELETE FROM messages
  WHERE id = old.message_id AND NOT EXISTS (SELECT 1 FROM deliveries WHERE message_id = old.message_id);
END;
