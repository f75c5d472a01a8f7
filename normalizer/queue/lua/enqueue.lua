-- Enqueue jobs by id: one job per id, whatever became of an earlier one.
--
-- KEYS  1 queue   2 rerun  hash job id -> payload enqueued while the job ran   3 channel that wakes workers
--       4.. other queues, in which a job may wait already
-- ARGV  1 how far ahead of now, ms   2 how long a payload is kept, ms   3 how ids end that say nothing of their content
--       4.. two a job: id, payload (at most 1,000 jobs)
-- RETURN {new, already queued or in work with this content, in work: will run once more}
--
-- A kept result does not stand in the way (in stock arq it does); a job that waits moves forward if the new score is
-- lower; a job in work whose content may have changed is noted in `rerun`, and settle.lua starts it over when it ends.
-- The score is Redis's time: producers' clocks differ.
-- Why atomic: a job may be claimed or settled at any moment; whether it waits, runs or is over must be one answer.

local queue, rerun, channel = unpack(KEYS)
local score, keep_ms, nameless = whole(clock_ms() - tonumber(ARGV[1])), ARGV[2], ARGV[3]
local ids, lock_keys, job_keys = {}, {}, {}
for i = 4, #ARGV, 2 do
  local id = ARGV[i]
  ids[#ids + 1] = id
  lock_keys[#lock_keys + 1] = 'arq:in-progress:' .. id
  job_keys[#job_keys + 1] = 'arq:job:' .. id
end
if #ids == 0 then return {0, 0, 0} end

local function waits_elsewhere(id)
  for i = 4, #KEYS do
    if redis.call('ZSCORE', KEYS[i], id) then return true end
  end
  return false
end

local locks = redis.call('MGET', unpack(lock_keys))
local jobs = redis.call('MGET', unpack(job_keys))
local zadd, hset, old, seen = {}, {}, {}, {}
local fresh, waiting, running = 0, 0, 0
for i, id in ipairs(ids) do
  local payload = ARGV[2 * i + 3]
  if seen[id] then
    waiting = waiting + 1
  elseif jobs[i] and locks[i] then
    if string.sub(id, -#nameless) == nameless then
      hset[#hset + 1], hset[#hset + 2] = id, payload
      running = running + 1
    else
      waiting = waiting + 1
    end
  elseif jobs[i] and waits_elsewhere(id) then
    waiting = waiting + 1
  else
    if jobs[i] then
      waiting = waiting + 1
    else
      redis.call('SET', job_keys[i], payload, 'PX', keep_ms)
      old[#old + 1], old[#old + 2] = 'arq:result:' .. id, 'arq:retry:' .. id
      fresh = fresh + 1
    end
    zadd[#zadd + 1], zadd[#zadd + 2] = score, id
  end
  seen[id] = true
end
if #zadd > 0 then redis.call('ZADD', queue, 'LT', unpack(zadd)) end
if #hset > 0 then redis.call('HSET', rerun, unpack(hset)) end
if #old > 0 then redis.call('DEL', unpack(old)) end
if #zadd > 0 then redis.call('PUBLISH', channel, 'job') end
return {fresh, waiting, running}
