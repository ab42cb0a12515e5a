"""Redis: one Lua script an event, pipelined by 500. Append-only file, synced once a second (Redis' own default then).

At least once, and a crash of Redis loses up to a second of what was already told.
"""

from __future__ import annotations

import redis

from peers.clients import Kafka
from peers.job import Meter, arguments, identifiers, outcome

RESOLVE = """
local survivor, others = nil, {}
for _, id in ipairs(ARGV) do
  local person = tonumber(redis.call('HGET', 'owners', id))
  if person then
    if survivor == nil then survivor = person
    elseif person < survivor then others[survivor] = true; survivor = person
    elseif person > survivor then others[person] = true end
  end
end
if survivor == nil then survivor = redis.call('INCR', 'persons') end
others[survivor] = nil
for person, _ in pairs(others) do
  for _, id in ipairs(redis.call('SMEMBERS', 'p:' .. person)) do
    redis.call('HSET', 'owners', id, survivor)
    redis.call('SADD', 'p:' .. survivor, id)
  end
  redis.call('DEL', 'p:' .. person)
end
for _, id in ipairs(ARGV) do
  redis.call('HSET', 'owners', id, survivor)
  redis.call('SADD', 'p:' .. survivor, id)
end
return survivor
"""


def main() -> None:
    options = arguments(__doc__ or "")
    client = redis.Redis.from_url(options.address)
    resolve = client.register_script(RESOLVE)
    client.script_load(RESOLVE)
    kafka, meter = Kafka(options.kafka, options.source, options.out), Meter()
    for messages in kafka.batches(options.events):
        pipeline = client.pipeline(transaction=False)
        for message in messages:
            found = identifiers(message.value() or b"")
            if found:
                pipeline.evalsha(resolve.sha, 0, *found)
        kafka.tell([int(profile) for profile in pipeline.execute()])
        meter.count(len(messages))
    meter.report(outcome((key.decode(), int(owner)) for key, owner in client.hgetall("owners").items()))
    kafka.close()


if __name__ == "__main__":
    main()
