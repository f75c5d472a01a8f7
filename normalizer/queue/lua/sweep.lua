-- Put jobs of dead replicas back: their group's lease ran out and nobody renewed it.
--
-- KEYS  1 queue   2 leases   3 holds   4 sizes   5 claims   6 suspects   7 quarantine   8 quarantine_owner
--       (see record.lua and claim.lua)
-- ARGV  1 crashes before a job can be condemned   2 crashes after which it always is   3 at most so many groups
--       4 Redis's time after which it is too late, ms
-- RETURN flat {token, jobs put back, ...}, one entry for each group that was dead
--
-- No try is counted: a crash has its own account. All jobs of the dead group that were not settled become
-- suspects and may only run in groups of half their number; from the second crash on, in a process that runs nothing
-- else (claim.lua); a job that was alone in such a process when it died is condemned (`dead`).
-- Why atomic: a worker that is only slow may renew at any moment; it is this or that, never half of each.

local queue, leases, holds, sizes, claims, suspects, quarantine, owner_key = unpack(KEYS)
local min_crashes, max_crashes = tonumber(ARGV[1]), tonumber(ARGV[2])
local now = clock_ms()
-- This call was delayed (e.g. CLIENT PAUSE), so live workers could not renew either: they are heard first.
if now > tonumber(ARGV[4]) then return {} end
local over = redis.call('ZRANGEBYSCORE', leases, '-inf', whole(now), 'WITHSCORES', 'LIMIT', 0, ARGV[3])
local report = {}
if #over == 0 then return report end
write_even_when_full(sizes)

-- The group's jobs nobody else has, as {id, place, ...}. An earlier release wrote the lease's end as the score.
local function orphans_of(token, lease_end)
  local packed = redis.call('HGET', claims, token)
  local jobs, ids, lock_keys, found = packed and cmsgpack.unpack(packed) or {}, {}, {}, {}
  for i = 1, #jobs, 2 do
    ids[#ids + 1] = jobs[i]
    lock_keys[#lock_keys + 1] = 'arq:in-progress:' .. jobs[i]
  end
  if #ids == 0 then return found end
  local hold_end = redis.call('ZSCORE', holds, token) or lease_end
  local locks = redis.call('MGET', unpack(lock_keys))
  local scores = redis.call('ZMSCORE', queue, unpack(ids))
  for i = 1, #ids do
    if scores[i] and (locks[i] == token or (not locks[i] and scores[i] == hold_end)) then
      found[#found + 1] = ids[i]
      found[#found + 1] = jobs[2 * i]
    end
  end
  return found
end

-- Book the crash. Returns whether the job may only run alone from now on.
local function book_crash(id, text, token, n)
  local r = text and parse(text) or {crashes = 0, soft = 0}
  r.crashes, r.blamed, r.limit = r.crashes + 1, token, math.max(1, math.floor(n / 2))
  r.dead = (n == 1 and r.crashes >= min_crashes) or r.crashes >= max_crashes
  redis.call('HSET', suspects, id, text_of(r))
  return r.crashes >= 2
end

local function put_back(found, token)
  local ids, n = {}, #found / 2
  for i = 1, n do ids[i] = found[2 * i - 1] end
  local texts = redis.call('HMGET', suspects, unpack(ids))
  for i = 1, n do
    local id, place = ids[i], found[2 * i]
    redis.call('DEL', 'arq:in-progress:' .. id)
    if book_crash(id, texts[i], token, n) then
      redis.call('ZADD', quarantine, place, id)
      place = whole(now + SET_ASIDE_MS)
    end
    redis.call('ZADD', queue, 'XX', place, id)
  end
end

for i = 1, #over, 2 do
  local token = over[i]
  local found = orphans_of(token, over[i + 1])
  if #found > 0 then put_back(found, token) end
  dissolve(token, leases, holds, sizes, claims)
  local owner = redis.call('GET', owner_key)
  if owner and string.sub(token, 1, #owner) == string.sub(owner, 2) .. ':' then redis.call('DEL', owner_key) end
  report[#report + 1] = token
  report[#report + 1] = #found / 2
end
return report
