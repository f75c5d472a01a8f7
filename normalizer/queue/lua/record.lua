-- Shared by the scripts beside it (put in front of each): the record of a claimed or suspected job.
--
-- A record is the value of one field of the hash `{queue}:claims`: "token|limit|crashes|soft|score|blamed|dead"
--   token    of the claim that holds the job; empty: nobody does
--   limit    largest group the job may join; 0: any
--   crashes  how often the process died under it      soft  how often its group raised or overran
--   score    its place in the queue before it was claimed (a claimed job's score there is the end of its lease)
--   blamed   token of the claim whose death was booked last, so that a worker that only stood still can take it back
--   dead     1: condemned, to be buried instead of run
-- A job without a record was never in trouble and is in nobody's hands.

local function parse(text)
  local token, limit, crashes, soft, score, blamed, dead =
    string.match(text, '^([^|]*)|(%d+)|(%d+)|(%d+)|([^|]*)|([^|]*)|(%d)$')
  return {token = token, limit = tonumber(limit), crashes = tonumber(crashes), soft = tonumber(soft), score = score,
          blamed = blamed, dead = dead == '1'}
end

local FRESH = '|0|0|0|'  -- a job that was never in trouble: token .. FRESH .. score .. '||0'

local function text_of(r)
  return table.concat({r.token, r.limit, r.crashes, r.soft, r.score, r.blamed, r.dead and '1' or '0'}, '|')
end

-- The worker that held `token` lives: the crash booked on the job was none.
local function pardon(claims, id, r, token)
  if r.blamed ~= token then return end
  r.crashes, r.blamed, r.dead = math.max(0, r.crashes - 1), '', false
  if r.crashes == 0 and r.soft == 0 then r.limit = 0 end
  redis.call('HSET', claims, id, text_of(r))
end

local function clock_us()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

local function clock_ms() return math.floor(clock_us() / 1000) end

local function whole(number) return string.format('%.0f', number) end

-- Call with the list's members as arguments, some at a time: unpack() is bounded by Lua's stack.
local function in_chunks(list, call)
  for from = 1, #list, 1000 do call(unpack(list, from, math.min(from + 999, #list))) end
end

