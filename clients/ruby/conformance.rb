# frozen_string_literal: true

# Makes the calls of a plan and reports what came back: tests/conformance/README.md.

$LOAD_PATH.unshift(File.join(__dir__, 'build'), File.join(__dir__, 'lib'), __dir__)

require 'conformance_report'
require 'json'
require 'siglip/client'

# The calls of one plan, in its order.
class Plan
  REQUESTS = {
    'EmbedTexts' => Siglip::V1::EmbedTextsRequest, 'EmbedImages' => Siglip::V1::EmbedImagesRequest,
    'Classify' => Siglip::V1::ClassifyRequest, 'Score' => Siglip::V1::ScoreRequest,
    'CreateLabelSet' => Siglip::V1::CreateLabelSetRequest, 'GetModel' => Siglip::V1::GetModelRequest,
    'Tokenize' => Siglip::V1::TokenizeRequest
  }.freeze

  def initialize(path)
    @plan = JSON.parse(File.read(path))
    @clients = {}
    @label_sets = {}
  end

  def run
    @plan.fetch('cases').each { |given| Report.write({ case: given['name'], **line(given) }) }
  end

  private

  def line(given)
    given['call'] == 'EmbedStream' ? stream(given) : unary(given)
  rescue Siglip::CallError => e
    Report.failure(e)
  rescue StandardError => e
    { code: 'UNKNOWN', message: "#{e.class}: #{e.message}" }
  end

  # One connection for each endpoint and number of retries.
  def client(given)
    options = { retries: given['retries'] }.compact
    @clients[[given['endpoint'], options]] ||= begin
      endpoint = @plan['endpoints'].fetch(given['endpoint'])
      Siglip::Client.new(endpoint['address'], tls: endpoint['tls'] || false, ca_file: endpoint['ca_file'],
                                              token: endpoint['token'], **options)
    end
  end

  def timeout_s(given)
    given.fetch('timeout_ms', 30_000) / 1000.0
  end

  def unary(given)
    name = given['call'].gsub(/(?<!^)[A-Z]/) { |letter| "_#{letter}" }.downcase
    response = client(given).public_send(name, request(given), timeout_s: timeout_s(given))
    @label_sets[given['name']] = response.label_set if given['call'] == 'CreateLabelSet'
    { code: 'OK', message: '', **Report.of(response) }
  end

  def request(given)
    type = REQUESTS.fetch(given['call'])
    return type.decode(given['request_base64'].unpack1('m')) if given['request_base64']

    fields = given.fetch('request', {})
    request = type.decode_json(JSON.generate(fields.except('images')))
    request.images.concat(pictures(fields['images'])) if fields['images']
    request.label_set = @label_sets.fetch(given['label_set_from'], '') if given['label_set_from']
    request
  end

  def pictures(names)
    names.map { |name| File.binread(File.join(@plan['inputs'], name)) }
  end

  def stream(given)
    wanted = given['stream']
    contents = wanted['texts']&.map { |text| { text: text } } || pictures(wanted['images']).map { |image| { image: image } }
    count = wanted['count']
    items = (0...count).lazy.map { |i| Siglip::V1::EmbedStreamItem.new(contents[i % contents.size]) }
    report = StreamReport.new(given['name'], [count, contents.size].min, wanted.fetch('pause_ms', 0) / 1000.0)
    report.of(client(given), items, dtype: wanted.fetch('dtype', 'DTYPE_F32').to_sym,
                                    ordered: wanted.fetch('ordered', false), timeout_s: timeout_s(given),
                                    model: wanted.fetch('model', ''), normalize: wanted.fetch('normalize', true))
  end
end

Plan.new(ARGV.fetch(0) { abort 'usage: conformance.rb PLAN.json' }).run
